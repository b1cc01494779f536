"""Fixtures for every test: real readers, synthetic voices, and the development data where it is there."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.speech import Reading, readings, synthesise

ROOT = Path(__file__).resolve().parents[1]
SyntheticVoice = Callable[..., Path]

# How long an example takes says nothing about it: machines are slow, and busy.
settings.register_profile("ostiary", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ostiary")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: with several workers, none is left alone with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)  # stable: otherwise as they were collected


@pytest.fixture(scope="session")
def product_threads() -> frozenset[str]:
    """The names of the threads that the product starts beside its pools."""
    sources = [path.read_text("utf-8") for part in ("device", "sync") for path in (ROOT / part).rglob("*.py")]
    named = r'(?:Thread\([^)]*name=|super\(\)\.__init__\()"([^"]+)"'
    names = {name for text in sources for name in re.findall(named, text)}
    assert {"page", "upkeep", "watch"} <= names
    return frozenset(names)


@pytest.fixture(autouse=True, scope="module")
def nobody_stays_behind(product_threads: frozenset[str]) -> Iterator[None]:
    """What a file's tests began of the product ends with them, and meets no other test."""
    yield
    for thread in threading.enumerate():
        if thread.name in product_threads:
            thread.join(60.0)
            assert not thread.is_alive(), f"the thread {thread.name!r} outlives the tests of this file"


@pytest.fixture(scope="session")
def reader() -> list[Reading]:
    """Five sentences of one LibriVox reader: (path, text)."""
    return readings("librivox", "transcription")


@pytest.fixture(scope="session")
def other_reader() -> list[Reading]:
    """Five short utterances of another person, naming playing cards: (path, text)."""
    return readings("cards", "cards.transcription")


@pytest.fixture(scope="session")
def synthetic_voice(tmp_path_factory: pytest.TempPathFactory) -> SyntheticVoice:
    """`synthetic_voice(text, system="espeak-ng")` is a WAV of a machine saying it; also "flite"."""
    folder = tmp_path_factory.mktemp("synthetic")

    def say(text: str, system: str = "espeak-ng") -> Path:
        path = folder / f"{system}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.wav"
        return path if path.exists() else synthesise(text, path, system)

    return say


@pytest.fixture(scope="session")
def development_data() -> Path:
    """The speech beside the project, which a fresh machine does not have: tests that use it skip there."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("OSTIARY_DEV_DATA", default))
    if not (folder / "manifest.tsv").is_file():
        pytest.skip("no development data; set OSTIARY_DEV_DATA to its folder")
    return folder
