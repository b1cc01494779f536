"""An answer that is complete opens at its first pause; what follows it is still listened to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device import app
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Outcome
from device.access.passage import duress_digest
from device.access.rules.model import Person
from device.audio import FileSource, Frame
from device.audio.settings import AudioSettings, EndpointerSettings
from device.evidence.wordlists import duress_words
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from sync.events import Record
from tests.conftest import SyntheticVoice
from tests.device.door.plain_door import PlainDoor
from tests.device.test_app import UID, Recorder, saying
from tests.speech import Reading

SLOW_S = 0.25
"""How long the source waits between frames of silence: 5 s of them give any machine a minute to judge."""


class Paced:
    """A recording, then silence that passes slowly until the door has opened, then what follows."""

    def __init__(
        self, path: Path, opened: threading.Event, *, then: Path | None = None, slow_s: float = SLOW_S
    ) -> None:
        self._path, self._opened, self._then, self._slow_s = path, opened, then, slow_s
        self.silent_frames_before_opening = 0

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        yield from FileSource(self._path).frames(stop)
        for _ in range(240):
            if self._opened.wait(self._slow_s) or stop.is_set():
                break
            self.silent_frames_before_opening += 1
            yield Frame(np.zeros(320, np.int16), 0)
        if self._then is not None:
            yield from FileSource(self._then).frames(stop)
        for _ in range(300):
            yield Frame(np.zeros(320, np.int16), 0)


@pytest.fixture
def patient(tmp_path: Path, models: Path, reader: list[Reading]) -> Iterator[Unit]:
    """A unit that waits five seconds of silence before an utterance counts as over."""
    settings = replace(Settings(), audio=AudioSettings(EndpointerSettings(end_ms=5_000)))
    with open_unit(settings, tmp_path, models) as unit:
        tools = Tools(unit.judge, unit.store, settings, tmp_path)
        enrol(tools, UID, named([reader[n].path for n in (0, 2, 3)]), reason="operator")
        yield unit


def serve(unit: Unit, source: Paced, opened: threading.Event) -> tuple[Decision, PlainDoor]:
    class Strike(PlainDoor):
        def obey(self, decision: Decision) -> None:
            super().obey(decision)
            opened.set()

    door = Strike("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim = Claim(ClaimKind.BADGE, UID)
    (decision,) = app.run(unit, [claim], source, "door-1", door, Recorder(), threading.Event())
    return decision, door


def logged(unit: Unit) -> list[Record]:
    with closing(sqlite3.connect(StateFolder(unit.store.folder.parent).audit_log)) as log:
        rows = log.execute("SELECT body FROM events ORDER BY sequence").fetchall()
    return [Record.from_bytes(body) for (body,) in rows]


def test_a_complete_answer_opens_before_the_silence_is_waited_out(
    patient: Unit, reader: list[Reading]
) -> None:
    opened = threading.Event()
    source = Paced(reader[4].path, opened)
    decision, door = serve(saying(patient, reader[4].text), source, opened)
    assert decision.outcome is Outcome.GRANTED
    assert not door.is_locked
    assert 0 < source.silent_frames_before_opening < 240


def test_a_phrase_whose_end_is_missing_waits_for_the_end_of_the_silence(
    patient: Unit, reader: list[Reading]
) -> None:
    opened = threading.Event()
    source = Paced(reader[4].path, opened, slow_s=0.01)
    decision, door = serve(saying(patient, f"{reader[4].text} and seven more"), source, opened)
    assert not decision.opens
    assert door.is_locked
    assert source.silent_frames_before_opening > 200


def test_a_duress_word_after_a_complete_answer_alarms_though_the_door_is_open(
    patient: Unit, reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    word = sorted(duress_words())[0]
    digest = duress_digest(patient.store.mac, UID, word)
    rules = patient.controller.rules
    patient.controller.rules = replace(rules, people={**rules.people, UID: Person(UID, duress=(digest,))})
    opened = threading.Event()
    source = Paced(reader[4].path, opened, then=synthetic_voice(word))
    decision, door = serve(saying(patient, reader[4].text), source, opened)
    assert decision.outcome is Outcome.GRANTED
    assert not door.is_locked
    kinds = [record.event.kind for record in logged(patient)]
    assert kinds[-2:] == ["GRANTED", "DURESS"]
    assert logged(patient)[-1].event.silent_alarm


def test_what_somebody_chats_after_a_complete_answer_changes_nothing(
    patient: Unit, reader: list[Reading], other_reader: list[Reading]
) -> None:
    opened = threading.Event()
    source = Paced(reader[4].path, opened, then=other_reader[0].path)
    decision, _ = serve(saying(patient, reader[4].text), source, opened)
    assert decision.outcome is Outcome.GRANTED
    kinds = [record.event.kind for record in logged(patient)]
    assert set(kinds[kinds.index("GRANTED") + 1 :]) <= {"VOICE_FOLLOWED"}


class Hesitant:
    """A recording with a pause at its quietest place, then silence."""

    def __init__(self, path: Path, pause_s: float) -> None:
        self._path, self._pause_s = path, pause_s

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        frames = [Frame(frame.samples.copy()) for frame in FileSource(self._path).frames(stop)]
        loud = [float(np.square(frame.samples.astype(np.float64)).mean()) for frame in frames]
        spoken = [n for n, level in enumerate(loud) if level > 0.02 * max(loud)]
        third = (spoken[-1] - spoken[0]) // 3
        at = min(range(spoken[0] + third, spoken[-1] - third), key=lambda n: sum(loud[n - 2 : n + 3]))
        yield from frames[:at]
        for _ in range(round(self._pause_s / 0.02)):
            yield Frame(np.zeros(320, np.int16), 0)
            stop.wait(0.002)
        yield from frames[at:]
        for _ in range(300):
            yield Frame(np.zeros(320, np.int16), 0)
            stop.wait(0.002)


@pytest.mark.parametrize(("hesitation_ms", "outcome"), [(1_400, True), (700, False)])
def test_who_pauses_for_a_second_inside_the_phrase_is_heard_to_its_end(
    tmp_path: Path, models: Path, reader: list[Reading], hesitation_ms: int, outcome: bool
) -> None:
    endpointer = EndpointerSettings(hesitation_ms=hesitation_ms)
    settings = replace(Settings(), audio=AudioSettings(endpointer))
    with open_unit(settings, tmp_path, models) as unit:
        tools = Tools(unit.judge, unit.store, settings, tmp_path)
        enrol(tools, UID, named([reader[n].path for n in (0, 2, 3)]), reason="operator")
        door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
        said = saying(unit, reader[4].text)
        claim, source = Claim(ClaimKind.BADGE, UID), Hesitant(reader[4].path, 1.1)
        (decision,) = app.run(said, [claim], source, "door-1", door, Recorder(), threading.Event())
    assert decision.opens is outcome, decision
