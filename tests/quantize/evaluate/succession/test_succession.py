"""One speaker model follows another: what the evaluation counts, on voices that were made for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from device.access.policy import Thresholds
from device.model_store.calibration import Calibration
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.succession.chapter import succession_chapter, succession_lines
from quantize.evaluate.succession.measure import (
    LEAST_FILES,
    Heard,
    SuccessionResult,
    both_ways,
    evaluate_succession,
)

SIZE = 64
NAMES = [name for name in (f"voice-{number}" for number in range(60)) if not fits(name)][:8]
AT = Thresholds(voice_llr=3.0, live_llr=0.0)


def measured(
    likeness: float, live: float = 9.0, way: Callable[..., SuccessionResult | None] = evaluate_succession
) -> SuccessionResult | None:
    """People whose voices have nothing in common; of the second so much is the first's, for both models."""
    dice = np.random.default_rng(4)
    whole = np.linalg.qr(dice.normal(size=(SIZE, SIZE)))[0]
    voices = {name: whole[at] for at, name in enumerate(NAMES)}
    voices[NAMES[1]] = likeness * voices[NAMES[0]] + np.sqrt(1 - likeness**2) * voices[NAMES[1]]
    files, heard = [], {}
    for name in NAMES:
        for number in range(LEAST_FILES + 1):
            one = Recording(path := f"{name}/{number}.wav", "bonafide", name, "", "", "", "")
            noisy = voices[name] + dice.normal(size=SIZE) * 0.03
            files.append(one)
            heard[path] = (noisy / np.linalg.norm(noisy)).astype(np.float32)
    straight = Calibration(20.0, -10.0)
    lives = dict.fromkeys(heard, live)
    return way(files, Heard("old", heard, straight), Heard("next", heard, straight), lives, AT)


def test_voices_that_are_told_apart_seed_nothing_and_everybody_comes_over() -> None:
    found = measured(likeness=0.0)
    assert found is not None
    assert found.came_over.accepted == len(NAMES)
    others = found.strangers
    assert others.attempts == len(NAMES) * (len(NAMES) - 1) * (LEAST_FILES + 1)
    assert (others.well_inside, others.seeded) == (0, 0)
    assert not any(one.ready_with_it for one in found.intrusions)


def test_somebody_whom_the_model_in_use_takes_for_the_person_is_counted_as_what_it_seeds() -> None:
    found = measured(likeness=0.97)
    assert found is not None
    assert found.strangers.seeded == found.strangers.well_inside > 0
    said = "\n".join(succession_lines(found))
    assert f"{found.strangers.seeded} of them became part of a voiceprint" in said
    assert f"{found.strangers.attempts:,} were well inside" in succession_chapter(found)


def test_what_passes_by_force_alone_is_no_stranger_of_the_rule() -> None:
    found = measured(likeness=0.7)
    assert found is not None
    assert any(one.ready_with_it for one in found.intrusions), "by force, past the model in use"
    assert found.strangers.well_inside == 0


def test_the_models_are_also_turned_round() -> None:
    found = measured(likeness=0.0, way=both_ways)
    assert found is not None
    assert found.turned is not None
    assert (found.turned.old, found.turned.following, found.turned.turned) == ("next", "old", None)
    assert "turned round: next is in use, old is to follow" in "\n".join(succession_lines(found))
    assert "Turned round: old follows" in succession_chapter(found)
    assert found.summary()["turned_round"] == found.turned.summary()
    assert measured(likeness=0.0, live=1.9, way=both_ways) is None


def test_no_impostor_scores_higher_by_both_models_than_by_the_one_before() -> None:
    for likeness in (0.0, 0.7, 0.97):
        found = measured(likeness=likeness)
        assert found is not None
        assert found.risen.accepted == 0
        assert found.risen.trials == found.accepted["both"].trials == found.accepted["old"].trials
        assert found.accepted["both"].accepted <= found.accepted["old"].accepted
        assert found.refused["both"].accepted >= found.refused["old"].accepted
        assert all(one.highest_both <= one.highest_old for one in found.people)
        assert "0 of 8 people" in "\n".join(succession_lines(found))
    told = measured(likeness=0.97, way=partial(evaluate_succession, together=lambda _, grown: grown))
    assert told is not None
    assert told.risen.accepted > 0, "by the next model alone scores do rise, and it is counted"


def test_nobody_comes_over_by_recordings_that_are_not_live_enough() -> None:
    assert measured(likeness=0.0, live=1.9) is None
