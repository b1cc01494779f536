"""The trials of what a voiceprint follows: nobody is judged by the very attempt that was kept."""

from __future__ import annotations

import numpy as np
import pytest

from device.audio.utterance import Quality
from research.fits.followed import KINDS, Doors, Said, Trial, let_in, share
from tests.device.evidence.voice.test_followed import Embedding, Speaker

QUIET = Quality(3.0, 30.0, 0.0, -20.0, 7000.0)


def unit(vector: np.ndarray) -> Embedding:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def said(seed: int, files: int) -> list[Said]:
    dice = np.random.default_rng(seed)
    person = unit(dice.standard_normal(192))
    heard = [unit(person + 0.4 * unit(dice.standard_normal(192))) for _ in range(files)]
    return [Said(one, one, {(kind, 0): (one, QUIET) for kind in KINDS}) for one in heard]


@pytest.fixture
def doors() -> Doors:
    people = {f"p{seed}": ("corpus", said(seed, 7)) for seed in range(3)}
    return Doors(people, Speaker(), 3)


def test_each_is_judged_by_others_of_their_attempts_and_strangers_by_as_many(doors: Doors) -> None:
    own, others = doors.trials("near", "near", 3)
    assert (len(own), len(others)) == (3 * 4, 3 * 2 * 4)
    assert doors.trials("near", "near", 4)[0] == [], "of four, three are left beside the one that is judged"
    assert all(one.followed_llr < 12.0 or one.enrolled_llr > 5.0 for one in own)
    none, _ = doors.trials("near", "near", 0)
    assert all(np.isnan(one.followed_llr) for one in none)


def test_a_score_rises_within_its_bound_and_never_falls() -> None:
    assert Trial("a", 1.0, 9.0).llr(-3.0, 2.0) == 3.0
    assert Trial("a", 1.0, 5.5).llr(-3.0, 2.0) == 2.5
    assert Trial("a", 4.0, -9.0).llr(-3.0, 2.0) == 4.0
    trials = [Trial("a", 1.0, 9.0), Trial("b", 0.9, 9.0)]
    assert let_in(trials, -3.0, 2.0) == 1
    assert share(trials, -3.0, 2.0).startswith("50.0 [")


def test_a_stranger_who_is_let_in_by_force_is_not_kept(doors: Doors) -> None:
    for walk in doors.walked("near", 30, 20, np.random.default_rng(1)):
        assert (walk.taken, walk.degrees) == (0, 0.0)
        assert walk.since == walk.before
