"""Claims at the whole unit, on real models and real voices: a spoken number, and no claim at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device import app
from device.access.challenge import Challenge
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Factor, Notice, Outcome, Reason
from device.access.memory.history import recall
from device.access.rules import RiskClass, Rules, default_rules
from device.audio import FileSource, Frame
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from tests.device.door.plain_door import PlainDoor
from tests.device.test_app import Recorder, saying
from tests.speech import POCKETSPHINX, Reading, missing

READER, CARDS = "4711", "0815"


def without_claim(rules: Rules) -> Rules:
    """The same rules, at a door that asks for no claim."""
    standard = RiskClass("standard", factors=frozenset(Factor) - {Factor.CLAIM})
    return replace(rules, version=rules.version + 1, risks={"standard": standard})


@pytest.fixture
def unit(tmp_path: Path, models: Path, reader: list[Reading], other_reader: list[Reading]) -> Iterator[Unit]:
    """Two people are enrolled: a reader of books and a caller of cards."""
    settings = Settings()
    with open_unit(settings, tmp_path, models) as opened:
        for uid, readings in ((READER, [reader[n] for n in (0, 2, 3)]), (CARDS, other_reader[:3])):
            tools = Tools(opened.judge, opened.store, settings, tmp_path)
            enrol(tools, uid, named([r.path for r in readings]), reason="operator")
        yield opened


class OneAfterAnother:
    """A microphone that hears another recording each time it is opened."""

    def __init__(self, *paths: Path) -> None:
        self._paths = iter(paths)

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        return FileSource(next(self._paths)).frames(stop)


def press(unit: Unit, source: object) -> tuple[Decision, Recorder]:
    """Somebody without a badge presses the button."""
    recorder = Recorder()
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claims = [Claim(ClaimKind.BUTTON)]
    decision = list(app.run(unit, claims, source, "door-1", door, recorder, threading.Event()))[-1]  # type: ignore[arg-type]
    assert door.is_locked != decision.opens
    return decision, recorder


def test_an_enrolled_voice_is_recognised_without_a_claim(unit: Unit, reader: list[Reading]) -> None:
    unit.controller.adopt(without_claim(default_rules("door-1")))
    decision, _ = press(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert (decision.outcome, decision.person) == (Outcome.GRANTED, READER)


def test_the_right_one_of_two_enrolled_people_is_named(unit: Unit, other_reader: list[Reading]) -> None:
    unit.controller.adopt(without_claim(default_rules("door-1")))
    decision, _ = press(saying(unit, other_reader[4].text), FileSource(other_reader[4].path))
    voice = next(finding for finding in decision.findings if finding.factor is Factor.VOICE)
    assert voice.passed
    assert decision.person in (CARDS, None)  # these are a second long: the other checks may refuse them
    assert voice.threshold_llr == pytest.approx(3.0 + 0.6931, abs=1e-3)  # ln 2 more than for a claim


def test_a_stranger_is_nobody_however_many_are_enrolled(unit: Unit, reader: list[Reading]) -> None:
    unit.store.vault.forget(READER)
    unit.controller.adopt(without_claim(default_rules("door-1")))
    decision, _ = press(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert decision.outcome is Outcome.DENIED_VOICE
    assert decision.person is None


def test_where_nobody_is_enrolled_nobody_is_recognised(unit: Unit, reader: list[Reading]) -> None:
    for uid in (READER, CARDS):
        unit.store.vault.forget(uid)
    unit.controller.adopt(without_claim(default_rules("door-1")))
    decision, _ = press(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert decision.outcome is Outcome.DENIED_UNKNOWN


def test_a_person_is_recognised_only_at_doors_they_may_ever_pass(unit: Unit, reader: list[Reading]) -> None:
    rules = without_claim(default_rules("door-1"))
    listed = {CARDS: replace(rules.person(CARDS), disabled=False)}  # type: ignore[type-var]
    unit.controller.adopt(replace(rules, people=listed, admit_unlisted=False))
    decision, _ = press(saying(unit, reader[4].text), FileSource(reader[4].path))
    assert decision.outcome is Outcome.DENIED_VOICE


def test_a_spoken_number_claims_a_person(unit: Unit, reader: list[Reading], tmp_path: Path) -> None:
    number = spoken_number(tmp_path)
    rules = default_rules("door-1")
    person = replace(rules.person(READER), spoken=number.text)  # type: ignore[type-var]
    unit.controller.adopt(replace(rules, version=1, people={READER: person}))
    heard = OneAfterAnother(number.path, reader[4].path)
    decision, recorder = press(saying(unit, reader[4].text), heard)
    assert (decision.outcome, decision.person) == (Outcome.GRANTED, READER)
    assert recorder.order[0] == "ask_name"
    assert isinstance(recorder.told[0], Challenge)


def test_a_name_that_is_not_understood_shows_no_phrase(
    unit: Unit, reader: list[Reading], tmp_path: Path
) -> None:
    decision, recorder = press(unit, FileSource(reader[1].path))
    assert (decision.outcome, decision.code) == (Outcome.DENIED_UNKNOWN, Reason.NO_CLAIM)
    assert decision.notice is Notice.SAY_NUMBER
    assert not any(isinstance(told, Challenge) for told in recorder.told)
    counter, store = unit.store.keystore.counter("attempts"), unit.store
    written = recall(StateFolder(tmp_path).history, counter, store.mac, store.never_used("attempts"))
    assert written.failures == {}


def spoken_number(folder: Path) -> Reading:
    """A real person reading digits, from the package `pocketsphinx-testdata`."""
    import numpy as np
    import soundfile

    raw = POCKETSPHINX / "numbers.raw"
    if not raw.is_file():
        missing("numbers.raw", "pocketsphinx-testdata")
    path = folder / "numbers.wav"
    soundfile.write(path, np.fromfile(raw, "<i2"), 16_000, subtype="PCM_16")
    return Reading(path, "thirty three four six ninety two")


def test_a_number_nobody_listed_claims_the_uid_of_its_digits_so_the_door_tells_nothing(
    unit: Unit, reader: list[Reading], tmp_path: Path
) -> None:
    heard = OneAfterAnother(spoken_number(tmp_path).path, reader[4].path)
    decision, recorder = press(unit, heard)
    assert isinstance(recorder.told[0], Challenge)
    assert (decision.outcome, decision.person) == (Outcome.DENIED_UNKNOWN, "334692")


def test_a_weak_score_asks_the_same_person_for_one_more_phrase_at_once(
    unit: Unit, reader: list[Reading]
) -> None:
    standard = unit.controller.rules.risks["standard"]
    # Nobody's voice clears this, and everybody's misses it by little.
    weak = replace(standard.thresholds, voice_llr=30.0, step_up_margin_llr=100.0)
    rules = replace(unit.controller.rules, version=1, risks={"standard": replace(standard, thresholds=weak)})
    unit.controller.adopt(rules)
    recorder = Recorder()
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    heard = FileSource(reader[4].path)
    claims = [Claim(ClaimKind.BADGE, READER)]
    decisions = list(app.run(unit, claims, heard, "door-1", door, recorder, threading.Event()))
    assert decisions[0].outcome is Outcome.STEP_UP
    assert len(decisions) == 2
    assert not decisions[1].opens
    first, second = (told for told in recorder.told if isinstance(told, Challenge))
    assert first.phrase != second.phrase
