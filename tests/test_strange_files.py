"""No command hangs, and none ends in a traceback, whatever lies where a file belongs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from device.settings import models_dir
from tests.strange_files import commands, files_of

WITH_FILES = sorted({words[0] for words, command in commands() if files_of(words, command)})
SETTINGS = "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"


def played(folder: Path, word: str) -> list[dict[str, Any]]:
    config = folder / "ostiary.toml"
    config.write_text(SETTINGS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OSTIARY_")}
    environment |= {
        "OSTIARY_STATE_DIR": str(folder / "state"),
        "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
        "OSTIARY_CONFIG": str(config),
    }
    made = [sys.executable, "-c", "from device.cli import main; main()", "registry", "create", "--database"]
    subprocess.run(
        [*made, f"sqlite:///{folder}/registry.db"], env=environment, check=True, capture_output=True
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tests.strange_files", str(folder), word],
        env=environment,
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = folder / "said"
    assert ran.returncode == 0, (ran.stderr, ran.stdout[-500:], said.read_text(errors="replace")[-2000:])
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("word", WITH_FILES)
def test_something_else_than_a_file_gets_one_clear_line(tmp_path: Path, word: str) -> None:
    cases = played(tmp_path, word)
    assert cases
    wrong = [case for case in cases if case["code"] < 0 or "Traceback" in case["said"]]
    assert wrong == []
