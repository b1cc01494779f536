"""What the evaluation of conversations counts, and that its conversations are what it says they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.conversation.streams.trust import TrustSettings
from device.conversation.turns import Turn, overlaps
from quantize.errors import QuantizeError
from quantize.evaluate.conversation.changes import (
    Point,
    Series,
    evaluate_changes,
    outer,
    point,
)
from quantize.evaluate.conversation.chapter import changes_chapter, diarization_chapter
from quantize.evaluate.conversation.der import Errors, errors, mapping
from quantize.evaluate.conversation.measure import (
    KNOWN,
    LIVE,
    MODES,
    UNKNOWN,
    Attempted,
    DiarizationResult,
    figures_of,
)
from quantize.evaluate.conversation.mixtures import Studio, people_of, spoken
from quantize.evaluate.recordings.manifest import NOISE, ROOM, read_manifest

REFERENCE = [Turn(0.0, 4.0, "a"), Turn(3.0, 6.0, "b")]


def test_missed_false_alarm_and_confusion_are_told_apart() -> None:
    found = [Turn(0.0, 3.0, "x"), Turn(3.0, 5.0, "y"), Turn(6.0, 7.0, "y")]
    told = errors(REFERENCE, found, 8.0)
    assert told == Errors(7.0, missed_s=2.0, false_alarm_s=1.0, confusion_s=0.0)
    assert told.der == pytest.approx(3 / 7)
    swapped = [Turn(0.0, 4.0, "x"), Turn(4.0, 5.0, "x"), Turn(5.0, 6.0, "y")]
    assert errors(REFERENCE, swapped, 8.0) == Errors(7.0, missed_s=1.0, false_alarm_s=0.0, confusion_s=1.0)


def test_a_collar_leaves_out_what_is_near_a_boundary_of_the_reference() -> None:
    late = [Turn(0.2, 4.2, "x"), Turn(3.2, 6.2, "y")]
    assert errors(REFERENCE, late, 8.0).der > 0.05
    told = errors(REFERENCE, late, 8.0, 0.25)
    assert told.der == 0.0
    assert told.speech_s == pytest.approx(2.5 + 2 * 0.5 + 1.5)


def test_with_names_only_the_right_name_is_right() -> None:
    found = [Turn(0.0, 4.0, "b"), Turn(3.0, 6.0, "a")]
    assert errors(REFERENCE, found, 8.0).der == 0.0
    assert errors(REFERENCE, found, 8.0, named=True).confusion_s == pytest.approx(5.0)


def test_the_mapping_is_the_best_one_and_greedy_only_for_crowds() -> None:
    together = np.array([[5.0, 4.0, 0.0], [4.0, 0.0, 0.0]])
    assert sorted(mapping(together)) == [(0, 1), (1, 0)]
    assert sorted(mapping(together.T)) == [(0, 1), (1, 0)]
    assert mapping(np.zeros((0, 3))) == []
    assert sorted(mapping(np.eye(14))) == [(at, at) for at in range(14)]


def test_silence_in_both_has_no_rate() -> None:
    assert np.isnan(errors([], [], 5.0).der)


def test_where_somebody_speaks_is_found_in_a_clean_recording() -> None:
    wave = np.zeros(32_000, np.float32)
    wave[8_000:12_000] = wave[14_000:20_000] = 0.3
    wave += 1e-4 * np.random.default_rng(1).normal(size=32_000).astype(np.float32)
    [(begin, end)] = spoken(wave)  # the pause between them is short
    assert abs(begin - 8_000) <= 160
    assert abs(end - 20_000) <= 160
    assert spoken(np.zeros(10, np.float32)) == []


def test_conversations_are_made_of_people_that_nothing_was_fitted_on_the_same_each_time(
    development_data: Path,
) -> None:
    manifest = development_data / "manifest.tsv"
    recordings = read_manifest(manifest, development_data)
    people, others = (people_of(recordings, tuning=tuning) for tuning in (False, True))
    assert not {one.name for one in people} & {one.name for one in others}
    assert all(not set(one.enrol) & set(one.said) for one in people)

    def studio() -> Studio:
        noises, rooms = (read_manifest(manifest, development_data, (label,)) for label in (NOISE, ROOM))
        return Studio(development_data, noises, rooms)

    made, again = (list(studio().mixtures(people, 12, 7)) for _ in range(2))
    for one, same in zip(made, again, strict=True):
        assert np.array_equal(one.samples, same.samples)
        assert one.reference == same.reference
        assert len({turn.speaker for turn in one.reference}) == len(one.people)
        assert one.overlap <= one.asked_overlap + 0.06
        assert abs(one.samples).max() < 32_767
        for person in one.people:  # nobody speaks across themselves
            assert overlaps([turn for turn in one.reference if turn.speaker == person.name]) == []
    assert [len(one.people) for one in made[:3]] == [2, 3, 4]
    [splice] = studio().spliced(people, 1, 7)
    assert splice.first.name != splice.second.name
    assert 0.0 < splice.change_s < len(splice.samples) / 16_000
    with pytest.raises(QuantizeError, match="4 people"):
        list(studio().mixtures(people[:3], 1, 7))


def stream(own: int, other: int, llr: float = 6.0, noisy: bool = False) -> Series:
    steps = [(0.5 * at, llr if at <= own else -llr) for at in range(1, own + other + 1)]
    return Series(tuple(steps), 0.5 * own, ("a", "b"), noisy)


def test_a_change_is_timed_and_a_false_one_is_counted() -> None:
    good = point([stream(40, 20)], TrustSettings())
    assert good.false_per_hour == 0.0
    assert 0.5 <= good.p50_s <= 2.0
    steps = list(stream(40, 20).steps)
    steps[20:26] = [(at, -6.0) for at, _ in steps[20:26]]
    bad = point([Series(tuple(steps), 20.0, ("a", "b"), False)], TrustSettings())
    assert bad.false_per_hour == pytest.approx(3600.0 / 19.0, rel=0.1)
    deaf = point([stream(40, 20, llr=0.0)], TrustSettings())
    assert deaf.never_trusted == 1.0


def test_the_curve_keeps_what_nothing_beats_in_both() -> None:
    points = [
        Point(TrustSettings(), false, 0.0, p95, 0.0, 0.0)
        for false, p95 in ((0.0, 3.0), (1.0, 2.0), (1.5, 2.5), (4.0, 1.0))
    ]
    assert [(one.false_per_hour, one.p95_s) for one in outer(points)] == [(0.0, 3.0), (1.0, 2.0), (4.0, 1.0)]


def test_the_chapters_say_what_was_found() -> None:
    found = evaluate_changes([stream(40, 20), stream(40, 20, noisy=True)], TrustSettings(), replicates=5)
    assert found.window_eer["clean"].value == 0.0
    page = changes_chapter(found)
    assert "Still the same person?" in page
    one = Errors(10.0, 0.5, 0.25, 0.25)
    each = Attempted(
        "x", 2, 0.1, 12.0, "room", 30.0, {mode: {"0": one, "0.25": one} for mode in MODES},
        dict.fromkeys(MODES, 2), 2, 3, {UNKNOWN: 1.0, LIVE: 2.0},
    )  # fmt: skip
    figures = {mode: {c: figures_of([each], mode, c, 5) for c in ("0", "0.25")} for mode in MODES}
    assert figures[KNOWN]["0"].der.value == pytest.approx(0.1)
    result = DiarizationResult(
        "a + b", figures, {"people": {"2": {mode: figures[mode]["0.25"] for mode in MODES}}},
        dict.fromkeys(MODES, 1.0), 1.0, {UNKNOWN: 0.03, LIVE: 0.06}, (1, 9), [each], [each],
    )  # fmt: skip
    assert "10.00 %" in diarization_chapter(result)
    assert "1 of 9 voices got somebody else" in diarization_chapter(result)
