"""`ostiary run` as a process at a real microphone: a badge is typed, somebody speaks, it decides."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device.settings import models_dir
from tests.conftest import SyntheticVoice
from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import Reading

pytestmark = pytest.mark.e2e

OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
PATIENCE_S = 180.0
TRIES, SPOILED = 5, ("DENIED_QUALITY", "DENIED_EXPIRED")


class RunningUnit:
    """The appliance's process: badge numbers in, what the door shows out."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [*OSTIARY, "run", "--verbose"],
            env={**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches."""
        seen: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                seen.append(self._lines.get(timeout=left))
            except queue.Empty:
                break
            if found := re.search(pattern, seen[-1]):
                return found
        raise AssertionError(f"no {pattern!r} in:\n{''.join(seen)}")

    def badge(self, number: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(180)

    def end(self, *, pulled_plug: bool = False) -> int:
        if pulled_plug:
            self._process.kill()
        elif self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def server() -> Iterator[SoundServer]:
    require_sound()
    with SoundServer() as running:
        yield running


@pytest.fixture
def environment(server: SoundServer, tmp_path: Path, reader: list[Reading]) -> dict[str, str]:
    """A unit that knows the reader as 4711."""
    found = {
        **server.environment,
        "OSTIARY_STATE_DIR": str(tmp_path / "state"),
        "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
    }
    found.pop("OSTIARY_CONFIG", None)
    enrolment = [str(reader[n].path) for n in (0, 2, 3)]
    subprocess.run([*OSTIARY, "enroll", "4711", *enrolment], env=found, check=True, capture_output=True)
    return found


def answered(unit: RunningUnit, server: SoundServer, clip: Callable[[str], Path]) -> str:
    """What becomes of somebody who comes and plays a clip for the phrase on the display. On a busy machine
    blocks of it are lost, or it is over before the microphone hears: then somebody comes again.
    """
    for _ in range(TRIES):
        unit.badge("4711")
        server.play(clip(unit.shows(r"Please say: (.+?)\s*│")[1]))
        found = unit.shows(r"commands\.run: (DENIED_\w+): ")[1]
        if found not in SPOILED:
            return found
    raise AssertionError(f"not heard in {TRIES} tries")


def test_a_voice_at_the_microphone_is_judged_against_the_phrase_on_display(
    server: SoundServer, environment: dict[str, str], reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    unit = RunningUnit(environment)
    unit.shows("Show your badge")
    # The enrolled reader, with a sentence from a book: right voice, wrong words.
    assert answered(unit, server, lambda _: reader[4].path) == "DENIED_PHRASE"
    # A machine that reads the display: right words, no living voice.
    assert answered(unit, server, synthetic_voice) in ("DENIED_SPOOF", "DENIED_VOICE")
    assert unit.end() == 0


def test_a_unit_that_waits_for_a_badge_stops_when_told(environment: dict[str, str]) -> None:
    unit = RunningUnit(environment)
    unit.shows("Show your badge")
    assert unit.terminate() == 0


def test_a_unit_whose_plug_was_pulled_in_the_middle_of_an_attempt_starts_again_and_remembers(
    server: SoundServer, environment: dict[str, str]
) -> None:
    unit = RunningUnit(environment)
    unit.shows("Show your badge")
    unit.badge("4711")
    first = unit.shows(r"Please say: (.+?)\s*│")[1]
    unit.end(pulled_plug=True)
    again = RunningUnit(environment)
    again.shows("Show your badge")
    again.badge("4711")
    assert again.shows(r"Please say: (.+?)\s*│")[1] != first
    again.end(pulled_plug=True)
    doctor = subprocess.run([*OSTIARY, "doctor"], env=environment, capture_output=True, text=True)
    assert "WRONG" not in doctor.stdout, doctor.stdout
