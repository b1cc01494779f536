"""Each rule once at the real process: badges typed, phrases read off its display and spoken, orders given.

Nobody can be asked to speak a fresh phrase in a test, so flite does, with three of its voices. The rules of
these tests therefore leave out the live check, which would refuse every one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.evidence.wordlists import duress_words
from device.settings import models_dir
from tests.speech import require_tools

pytestmark = pytest.mark.e2e

OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
FRAME = 320
PATIENCE_S = 180.0
MOVE_S = 0.5
"""Nobody presses sooner after an answer: two presses within 0.1 s are one that bounced."""
NOT_UNDERSTOOD = ("DENIED_QUALITY", "DENIED_PHRASE")
ANNA, BRUNO, VERA = "slt", "rms", "awb"
SENTENCES = (
    "the river was quiet in the early morning and nobody was on the bridge",
    "please put the yellow boxes on the second shelf beside the window",
    "we will meet again in the garden when the summer holidays are over",
)


def say(voice: str, text: str, path: Path) -> Path:
    require_tools(["flite"], "flite")
    subprocess.run(
        ["flite", "-voice", voice, "--setf", "duration_stretch=1.15", "-t", text, "-o", str(path)],
        check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    return path


class Line:
    """A microphone by wire: faint noise, and speech when somebody speaks. It never stops, as none does."""

    def __init__(self, fifo: Path) -> None:
        os.mkfifo(fifo)
        self._fifo = fifo
        self._speech: queue.Queue[np.ndarray] = queue.Queue()
        self._noise = np.random.default_rng(1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def speak(self, wave: np.ndarray) -> None:
        self._speech.put(wave)

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(BrokenPipeError), self._fifo.open("wb", buffering=0) as pipe:
                self._serve(pipe)

    def _serve(self, pipe: object) -> None:
        speech = np.zeros(0, np.int16)
        next_s = time.monotonic()
        while not self._ended.is_set():
            if not len(speech):
                with contextlib.suppress(queue.Empty):
                    speech = self._speech.get_nowait()
            frame = self._noise.normal(0.0, 12.0, FRAME).astype(np.int16)
            part, speech = speech[:FRAME], speech[FRAME:]
            frame[: len(part)] += part
            pipe.write(frame.tobytes())  # type: ignore[attr-defined]
            next_s += 0.02
            time.sleep(max(0.0, next_s - time.monotonic()))


class Unit:
    """`ostiary run` with a line instead of a microphone, and what an admin types beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lines").mkdir()
        self.fire = folder / "lines" / "fire"
        self.fire.write_text("0")
        (folder / "ostiary.toml").write_text(
            "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"
            f"[door.simulated]\nlines = '{folder}/lines'\n[feedback]\npage = '{folder}/door.html'\n"
        )
        self.environment = {
            **os.environ,
            "OSTIARY_STATE_DIR": str(folder / "state"),
            "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
            "OSTIARY_CONFIG": str(folder / "ostiary.toml"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "COLUMNS": "200",
        }
        self.line = Line(folder / "line")
        self._lines: queue.Queue[str] = queue.Queue()
        self._version = 0
        self._spoken = 0
        self.reason = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*OSTIARY, "run", "--verbose", "--source", str(self.folder / "line")],
            env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.shows("Show your badge")

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._lines.put(line)

    def shows(self, pattern: str) -> re.Match[str]:
        seen: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                seen.append(self._lines.get(timeout=left))
                assert "Traceback" not in seen[-1]
                if found := re.search(pattern, seen[-1]):
                    return found
        self.process.send_signal(signal.SIGABRT)  # says where each of its threads is
        with contextlib.suppress(queue.Empty):
            while True:
                seen.append(self._lines.get(timeout=2.0))
        raise AssertionError(f"no {pattern!r} in:\n{''.join(seen)}\nended with {self.process.poll()}")

    def admin(self, *arguments: object, code: int = 0) -> str:
        ran = subprocess.run(
            [*OSTIARY, *map(str, arguments)],
            env=self.environment, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert ran.returncode == code, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout

    def enrol(self, uid: str, voice: str) -> None:
        paths = [say(voice, text, self.folder / f"{uid}-{n}.wav") for n, text in enumerate(SENTENCES)]
        self.admin("enroll", uid, *paths)

    def adopt(self, door: str = "", people: str = "", factors: str = '["claim", "phrase", "voice"]') -> str:
        """New rules while the unit runs."""
        self._version += 1
        path = self.folder / "rules.toml"
        path.write_text(
            f"version = {self._version}\n[risks.trial]\nfactors = {factors}\n"
            "thresholds = { phrase_llr = -8.0, voice_llr = 3.0 }\n"
            'challenge = { style = "digits", digits = 4 }\n'
            f'[zones.ward]\n[doors.door-1]\nzone = "ward"\nrisk = "trial"\n{door}\n'
            f'[[allow]]\nroles = ["nurse"]\n{people or PEOPLE}\n'
        )
        return self.admin("policy", "adopt", path)

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        time.sleep(MOVE_S)
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def speak(self, voice: str, text: str) -> None:
        self._spoken += 1
        path = say(voice, text, self.folder / f"said-{self._spoken}.wav")
        wave, rate_hz = soundfile.read(path, dtype="int16")
        assert rate_hz == 16_000
        self.line.speak(wave)

    def answer(self, voice: str, then: str = "") -> str:
        """Read the phrase off the display and say it; the outcome."""
        phrase = self.shows(r"Please say: (.+?)\s*│")[1]
        self.speak(voice, ", ".join(phrase.split()) + then)
        outcome, self.reason = self.shows(r"commands\.run: ([A-Z_]+): (.*)").groups()
        return str(outcome)

    def come(self, badge: str, voice: str, then: str = "") -> str:
        """The outcome of an attempt; what was slurred, or torn by a busy machine, is said again."""
        for _ in range(4):
            self.type(badge)
            outcome = self.answer(voice, then)
            if outcome not in NOT_UNDERSTOOD:
                return outcome
        raise AssertionError(self.reason)

    def come_by_number(self, voice: str, number: str) -> str:
        """As `come`, with a button and a spoken number instead of a badge."""
        for _ in range(4):
            self.type("")
            self.shows("Please say your number or name")
            self.speak(voice, number)
            phrase = self.shows(r"Please say: (.+?)\s*│|press again and say your number")[1]
            if phrase is None:
                continue
            self.speak(voice, ", ".join(phrase.split()))
            outcome, self.reason = self.shows(r"commands\.run: ([A-Z_]+): (.*)").groups()
            if outcome not in NOT_UNDERSTOOD:
                return str(outcome)
        raise AssertionError(self.reason or "the number was never understood")


PEOPLE = """
[people.anna]
roles = ["nurse"]
badges = ["111"]
spoken = "four five one two"
[people.bruno]
roles = ["nurse"]
badges = ["222"]
"""


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    found = Unit(tmp_path)
    for uid, voice in (("anna", ANNA), ("bruno", BRUNO)):
        found.enrol(uid, voice)
    found.adopt()
    found.start()
    try:
        yield found
    finally:
        found.line.end()
        found.process.kill()
        found.process.wait()


def test_every_rule_once_at_a_running_unit(unit: Unit) -> None:
    assert unit.come("111", ANNA) == "GRANTED"
    assert "Welcome" in (unit.folder / "door.html").read_text()
    assert unit.come("111", BRUNO) == "DENIED_VOICE"

    # Two people with two voices.
    assert "in force" in unit.adopt(door="two_persons_within_s = 120")
    assert unit.come("111", ANNA) == "AWAITING_SECOND_PERSON"
    assert unit.come("222", BRUNO) == "GRANTED"

    # A badge passed back.
    unit.adopt(door="anti_passback_s = 600")
    assert unit.come("111", ANNA) == "PASSBACK_DETECTED"
    assert "may try again" in unit.admin("policy", "pardon", "anna")
    assert unit.come("111", ANNA) == "GRANTED"

    # A visitor whose visit has ended.
    visitor = '[people.anna]\nroles = ["nurse"]\nbadges = ["111"]\nvalid_until = 2026-01-01T00:00:00Z\n'
    unit.adopt(people=visitor)
    assert unit.come("111", ANNA) == "DENIED_SCHEDULE"

    # Somebody is forced to open.
    word = duress_words()[0]
    line = unit.admin("policy", "duress", "anna", "--word", word).strip().splitlines()[-1]
    unit.adopt(people=PEOPLE.replace('badges = ["111"]', f'badges = ["111"]\n{line}'))
    said = unit.come("111", ANNA, then=f", {word}")
    assert said in ("DURESS", "GRANTED")

    # Lock-down, and a fire during it.
    unit.admin("policy", "lock-down")
    unit.type("111")
    unit.shows("LOCK_DOWN")
    unit.fire.write_text("1")
    unit.shows("DENIED_RULE|LOCK_DOWN")
    unit.fire.write_text("0")
    unit.admin("policy", "lock-down", "--lift")

    # A fire.
    unit.adopt(door="fire_release = true")
    unit.fire.write_text("1")
    unit.shows("strike released until the alarm ends")
    unit.fire.write_text("0")
    unit.shows("door-1: locked")

    # A spoken number instead of a badge.
    assert unit.come_by_number(ANNA, "four, five, one, two") == "GRANTED"

    # Nothing instead of a badge, where the rule asks for none.
    unit.adopt(factors='["phrase", "voice"]')
    assert unit.come("", BRUNO) == "GRANTED"

    # What the log says about it all.
    listed = json.loads(unit.admin("policy", "recent", "--count", 40, "--json"))
    kinds = {event["kind"] for event in listed}
    assert {"GRANTED", "DENIED_VOICE", "PASSBACK_DETECTED", "EMERGENCY_RELEASE", "LOCK_DOWN"} <= kinds
    assert "POLICY_APPLIED" in kinds
    told = unit.admin("policy", "explain", listed[0]["event_id"])
    assert "door door-1 opened (GRANTED)" in told


def test_a_unit_killed_while_somebody_speaks_counts_that_attempt_and_serves_again(unit: Unit) -> None:
    unit.type("111")
    unit.shows(r"Please say: (.+?)\s*│")
    unit.speak(ANNA, "one two three four five six seven")
    time.sleep(1.0)
    unit.process.kill()
    unit.process.wait()
    unit.start()
    assert unit.come("111", ANNA) == "GRANTED"
    assert "Nobody has failed" in _stopped(unit)


def _stopped(unit: Unit) -> str:
    unit.process.terminate()
    unit.process.wait(180)
    return unit.admin("policy", "failures")
