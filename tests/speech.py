"""Real voices from packages and synthetic ones made while a test runs. No audio is kept in the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

POCKETSPHINX = Path("/usr/share/pocketsphinx/test/data")
SYNTHESISERS = ("espeak-ng", "flite")


class Reading(NamedTuple):
    """A recorded sentence and its words, in lower case."""

    path: Path
    text: str


def missing(what: str, package: str) -> NoReturn:
    """Fail where everything must be installed (CI), skip elsewhere."""
    message = f"{what} is missing; run `apt install {package}`"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def require_tools(tools: Sequence[str], package: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            missing(tool, package)


def readings(folder: str, transcription: str) -> list[Reading]:
    """The sentences of one reader in the package `pocketsphinx-testdata`."""
    lines = POCKETSPHINX / folder / transcription
    if not lines.is_file():
        missing(f"{folder}/{transcription}", "pocketsphinx-testdata")
    found = re.findall(r"<s>\s*(.*?)\s*</s>\s*\((\S+)\)", lines.read_text())
    return [Reading(POCKETSPHINX / folder / f"{name}.wav", text) for text, name in found]


def synthesise(text: str, path: Path, system: str) -> Path:
    """Let a synthesiser say `text` into a WAV file. It is no human, so a door must refuse it."""
    require_tools([system], system)
    command = {
        "espeak-ng": ["espeak-ng", "-v", "en-us", "-w", str(path), text],
        "flite": ["flite", "-voice", "slt", "-t", text, "-o", str(path)],
    }[system]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return path
