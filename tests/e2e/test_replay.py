"""A recording of a granted attempt, played again: refused, across a kill and through ten rooms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.secure_store import open_store
from device.settings import Settings, models_dir
from device.unit.assembly import Tools, open_judge
from device.unit.enrolment import enrol, named
from quantize.playback import TEN
from tests.speech import Reading

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
Attempt = Callable[[str, Path, str], dict[str, object]]


@contextmanager
def door_process(state: Path) -> Iterator[Attempt]:
    """`attempt(uid, wav, phrase)`; leaving kills the process as a cut of the power does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.replay_door", str(state), str(models_dir())],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def attempt(uid: str, wav: Path, phrase: str) -> dict[str, object]:
        print(uid, wav, phrase, sep="\t", file=process.stdin, flush=True)
        line = process.stdout.readline() if process.stdout is not None else ""
        assert line, "the door died"
        found: dict[str, object] = json.loads(line)
        return found

    try:
        yield attempt
    finally:
        process.kill()
        process.wait(180)


@pytest.fixture
def state(tmp_path: Path, reader: list[Reading]) -> Path:
    """A unit that knows the reader under three badges, so that failures of one do not lock out the next."""
    folder = tmp_path / "state"
    settings = Settings()
    with open_judge(models_dir(), settings) as judge, open_store(folder, settings.store) as store:
        for uid in ("4711", "4712", "4713"):
            recordings = named([reader[n].path for n in (0, 2, 3)])
            enrol(Tools(judge, store, settings, folder), uid, recordings, reason="operator")
    return folder


def test_a_granted_attempt_played_again_is_refused_after_a_kill_and_through_ten_rooms(
    state: Path, tmp_path: Path, reader: list[Reading]
) -> None:
    said = reader[4]
    with door_process(state) as attempt:
        assert attempt("4711", said.path, said.text)["outcome"] == "GRANTED"
    with door_process(state) as attempt:
        again = attempt("4711", said.path, said.text)
        assert (again["outcome"], again["code"]) == ("DENIED_REPLAY", "heard_before"), again
    wave, rate = soundfile.read(said.path, dtype="float32")
    assert rate == 16_000
    with door_process(state) as attempt:
        for number, playback in enumerate(TEN):
            played = tmp_path / f"played-{number}.wav"
            heard = playback(wave, np.random.default_rng(number))
            soundfile.write(played, np.pad(heard, (8_000, 16_000)), rate, "PCM_16")
            decision = attempt("4712" if number % 2 else "4713", played, said.text)
            assert (decision["outcome"], decision["code"]) == ("DENIED_REPLAY", "heard_before"), number
