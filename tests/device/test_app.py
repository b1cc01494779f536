"""The whole unit on real models: claim, challenge, speech, decision, audit, strike."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from device import app
from device.access.challenge import Challenge
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Notice, Outcome, Reason
from device.audio import FileSource, Frame, Quality
from device.audio.errors import AudioDeviceLostError
from device.evidence.judge import Evidence, Timings
from device.liveness.threats.known import Match
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from sync.events import Record
from sync.threats.prints import VALUES
from tests.conftest import SyntheticVoice
from tests.device.door.plain_door import PlainDoor
from tests.speech import Reading

UID = "4711"


class Recorder:
    """A strike and a display that remember, and the order in which things happened."""

    def __init__(self) -> None:
        self.told: list[Challenge | Decision] = []
        self.order: list[str] = []

    def tell(self, what: Challenge | Decision) -> None:
        self.told.append(what)

    def ask_name(self) -> None:
        self.order.append("ask_name")

    def speaking(self) -> None:
        self.order.append("speaking")

    def judging(self) -> None:
        self.order.append("judging")

    @property
    def decisions(self) -> list[Decision]:
        return [what for what in self.told if isinstance(what, Decision)]


@pytest.fixture
def unit(tmp_path: Path, models: Path, reader: list[Reading]) -> Iterator[Unit]:
    settings = Settings()
    with open_unit(settings, tmp_path, models) as opened:
        enrolment = [reader[n].path for n in (0, 2, 3)]
        enrol(Tools(opened.judge, opened.store, settings, tmp_path), UID, named(enrolment), reason="operator")
        yield opened


def serve(unit: app.Unit, source: object, uid: str = UID) -> tuple[Decision, PlainDoor, Recorder]:
    recorder = Recorder()
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim = Claim(ClaimKind.BADGE if uid else ClaimKind.BUTTON, uid)
    (decision,) = app.run(unit, [claim], source, "door-1", door, recorder, threading.Event())  # type: ignore[arg-type]
    return decision, door, recorder


def saying(unit: Unit, phrase: str) -> Unit:
    """The unit with a display that shows a phrase of which there is a recording; all else stays real."""
    issue = unit.controller.greet

    class Greeter:
        drawn: ClassVar[dict[str, Challenge]] = {}

        def greet(self, door: str, uid: str, now: object) -> object:
            greeting = issue(door, uid, now)  # type: ignore[arg-type]
            if isinstance(greeting, Challenge):
                self.drawn[greeting.challenge_id] = greeting
            return replace(greeting, phrase=phrase) if isinstance(greeting, Challenge) else greeting

        def __getattr__(self, name: str) -> object:
            return getattr(unit.controller, name)

        def decide(self, challenge: Challenge, *args: object, **named: object) -> Decision:
            return unit.controller.decide(self.drawn[challenge.challenge_id], *args, **named)  # type: ignore[arg-type]

        def take_back(self, decision: Decision) -> None:
            unit.controller.take_back(decision)

    return replace(unit, controller=Greeter())  # type: ignore[arg-type]


def test_the_enrolled_person_who_says_the_phrase_gets_in(unit: Unit, reader: list[Reading]) -> None:
    decision, door, recorder = serve(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert decision.outcome is Outcome.GRANTED
    assert not door.is_locked
    assert isinstance(recorder.told[0], Challenge)


def test_a_recording_of_an_old_phrase_does_not_answer_a_fresh_one(unit: Unit, reader: list[Reading]) -> None:
    decision, door, _ = serve(unit, FileSource(reader[4].path))
    assert decision.outcome is Outcome.DENIED_PHRASE
    assert door.is_locked


def test_somebody_who_is_not_enrolled_stays_outside(unit: Unit, reader: list[Reading]) -> None:
    decision, door, _ = serve(saying(unit, reader[4].text), FileSource(reader[4].path), uid="0000")
    assert decision.outcome is Outcome.DENIED_UNKNOWN
    assert door.is_locked


def test_a_synthetic_voice_stays_outside(
    unit: Unit, reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    made = synthetic_voice(reader[4].text)
    decision, door, _ = serve(saying(unit, reader[4].text), FileSource(made))
    assert decision.outcome is Outcome.DENIED_SPOOF
    assert door.is_locked


def test_a_unit_with_a_tpm_serves_across_power_cuts(
    tmp_path: Path, models: Path, reader: list[Reading]
) -> None:
    with SwTpm(tmp_path / "tpm") as tpm:
        settings = replace(Settings(), store=tpm.settings())
        for start in range(3):
            with open_unit(settings, tmp_path / "state", models) as unit:
                if start == 0:
                    enrolment = [reader[n].path for n in (0, 2, 3)]
                    tools = Tools(unit.judge, unit.store, settings, tmp_path / "state")
                    enrol(tools, UID, named(enrolment), reason="operator")
                decision, _, _ = serve(saying(unit, reader[4].text), FileSource(reader[4].path))
                # The first time it is somebody speaking; from then on it is a recording of them.
                assert decision.outcome is (Outcome.GRANTED if start == 0 else Outcome.DENIED_REPLAY)
            tpm.reboot()


def test_what_a_unit_said_about_an_attempt_stands_in_its_event(unit: Unit, reader: list[Reading]) -> None:
    serve(saying(unit, reader[4].text), FileSource(reader[4].path))
    again, _, _ = serve(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert (again.outcome, again.code) == (Outcome.DENIED_REPLAY, Reason.HEARD_BEFORE)
    assert again.counts_as_failure
    with closing(sqlite3.connect(StateFolder(unit.store.folder.parent).audit_log)) as log:
        (body,) = log.execute("SELECT body FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
    scores = dict(Record.from_bytes(body).event.more_scores)
    assert scores["reuse_llr"] < 0.0
    assert {"cadence_llr", "envelopes_llr", "frame_rate_hz", "loudspeaker_llr", "synthetic_llr"} < set(scores)
    assert {"snr_db", "speech_s"} <= set(scores)
    assert {"timing_llr", "surroundings_llr"}.isdisjoint(scores), "nobody's habits are written down"
    assert (scores["reused_share"], scores["reuse_sources"]) == (pytest.approx(1.0, abs=0.2), 1.0)


class Remembering:
    """Bouts that remember what they were told, and find that everything resembles campaign 17."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int, str, str]] = []

    def match(self, print_values: bytes, door: str, person: str, now_s: float) -> Match:
        return Match(17, 0.8)

    def note(self, outcome: str, print_values: bytes, door: str, person: str, now_s: float) -> None:
        self.noted.append((outcome, len(print_values), door, person))


def test_a_claimed_attempt_is_compared_together_with_those_before_it_and_its_event_says_so(
    unit: Unit, reader: list[Reading]
) -> None:
    bouts = Remembering()
    seen = replace(saying(unit, reader[4].text), bouts=bouts)  # type: ignore[arg-type]
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim, source = Claim(ClaimKind.BADGE, UID), FileSource(reader[4].path)
    decided = list(app.run(seen, [claim], source, "door-1", door, Recorder(), threading.Event()))
    assert (decided[0].outcome, decided[0].code) == (Outcome.STEP_UP, Reason.KNOWN_ATTACK)
    assert door.is_locked
    assert bouts.noted == [(one.outcome, VALUES, "door-1", UID) for one in decided]
    with closing(sqlite3.connect(StateFolder(unit.store.folder.parent).audit_log)) as log:
        (body,) = log.execute("SELECT body FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
    scores = dict(Record.from_bytes(body).event.more_scores)
    assert scores["campaign"] == 17.0
    assert scores["campaign_likeness"] == pytest.approx(0.8)


def test_a_score_that_is_no_number_is_refused_and_logged(unit: Unit) -> None:
    quality = Quality(1.0, 30.0, 0.0, -20.0, 7000.0)
    evidence = Evidence(float("nan"), None, float("inf"), "", quality, Timings(1.0, 1.0, 1.0, 1.0))
    decision = Decision(Outcome.DENIED_FAULT, Reason.INVALID_EVIDENCE, "no number", Notice.REFUSED)
    event = unit.trail.event_of(replace(decision, door="door-1"), evidence)
    assert (event.phrase_llr, event.spoof_llr) == (None, None)


def test_a_lost_microphone_keeps_the_door_locked_and_is_logged(unit: Unit) -> None:
    class Unplugged:
        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            raise AudioDeviceLostError("the microphone is gone; check its plug")
            yield

    decision, door, _ = serve(unit, Unplugged())
    assert not decision.opens
    assert door.is_locked
    assert "microphone" in decision.reason


def test_a_judge_that_breaks_keeps_the_door_locked(unit: Unit, reader: list[Reading]) -> None:
    unit.judge.close()  # every judgement raises
    decision, door, _ = serve(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert decision.outcome is Outcome.DENIED_FAULT
    assert door.is_locked


def test_silence_ends_when_the_challenge_does(unit: Unit) -> None:
    class Quiet:
        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            while not stop.wait(0.002):
                yield Frame(np.zeros(320, np.int16), 0)

    impatient = replace(unit, listener=_Impatient(unit.listener))  # type: ignore[arg-type]
    decision, door, _ = serve(impatient, Quiet())
    assert decision.outcome is Outcome.DENIED_QUALITY
    assert door.is_locked


class _Impatient:
    """The real listener with a shorter patience than twenty seconds."""

    def __init__(self, listener: object) -> None:
        self._listener = listener

    def hear(self, *args: object, **named: object) -> object:
        named["start_within_s"] = 0.2
        return self._listener.hear(*args, **named)  # type: ignore[attr-defined]


def test_the_event_is_durable_before_the_strike_moves(unit: Unit, reader: list[Reading]) -> None:
    seen: list[int] = []

    class Watching(PlainDoor):
        def obey(self, decision: Decision) -> None:
            seen.append(unit.log.status().sequence)
            super().obey(decision)

    door = Watching("door-1", 5.0, lambda: 0.0, lambda _: None)
    before = unit.log.status().sequence
    claims = [Claim(ClaimKind.BADGE, UID)]
    list(app.run(unit, claims, FileSource(reader[4].path), "door-1", door, Recorder(), threading.Event()))
    assert seen == [before + 1]


def test_a_log_that_cannot_be_written_keeps_the_strike_still(unit: Unit, reader: list[Reading]) -> None:
    unit.log.close()
    door = PlainDoor("door-1", 5.0, lambda: 0.0, lambda _: None)
    parts, claims = saying(unit, reader[4].text), [Claim(ClaimKind.BADGE, UID)]
    heard = FileSource(reader[4].path)
    (decision,) = app.run(parts, claims, heard, "door-1", door, Recorder(), threading.Event())
    assert (decision.outcome, decision.code) == (Outcome.DENIED_FAULT, Reason.LOG_FAULT)
    assert door.is_locked


def test_no_audio_reaches_the_disk_while_attempts_run(
    unit: Unit, tmp_path: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file that the process may write is looked through for stretches of the very samples heard."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    samples = np.frombuffer(reader[4].path.read_bytes()[44:], "<i2")
    for _ in range(2):
        serve(saying(unit, reader[4].text), FileSource(reader[4].path))
    loud = [at for at in range(0, len(samples) - 64, 800) if np.abs(samples[at : at + 64]).max() > 500]
    needles = [samples[at : at + 64].tobytes() for at in loud]
    needles += [(samples[at : at + 64] / 32768.0).astype(np.float32).tobytes() for at in loud]
    assert len(needles) > 20
    open_files = {os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()}
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    written |= {Path(p) for p in open_files if p.startswith(str(tmp_path)) and Path(p).is_file()}
    assert written
    for path in written:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path
