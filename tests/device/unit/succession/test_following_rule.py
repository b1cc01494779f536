"""What a voiceprint follows, and why who gets in as somebody else cannot lead it away."""

from __future__ import annotations

import numpy as np
import pytest

from device.evidence.voice.followed import MOST, NEAR_LLR, RAISES_LLR, near, raised
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON
from device.secure_store import Growing
from device.unit.succession.following_rule import RENEWED_AFTER_DAYS, WITHIN_DAYS, Embedding, with_another
from tests.device.evidence.voice.test_followed import OFFSET, QUIET, SCALE, Speaker

HISTORIES = 120
"""For each likeness."""
SIZE = 192
SPEAKER = Speaker()


def unit(vector: np.ndarray) -> Embedding:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def always(_: Embedding) -> bool:
    return True


def row(seed: int) -> Embedding:
    return unit(np.random.default_rng(seed).standard_normal(SIZE))


def test_one_a_day_is_kept_and_once_it_is_full_the_oldest_goes_once_a_week() -> None:
    found: Growing | None = None
    for day in (5, 6, 7, 9, 10):
        found = with_another(found, "m", day, row(day), always)
        assert found is not None
        assert with_another(found, "m", day, row(99), always) is None, "one a day"
        assert with_another(found, "m", day - 1, row(99), always) is None, "a clock that goes back adds none"
    assert found is not None
    assert len(found.days) == MOST
    assert with_another(found, "m", 10 + RENEWED_AFTER_DAYS - 1, row(99), always) is None
    later = with_another(found, "m", 10 + RENEWED_AFTER_DAYS, row(99), always)
    assert later is not None
    assert later.days == (6, 7, 9, 10, 10 + RENEWED_AFTER_DAYS)
    assert np.array_equal(later.vectors[:-1], found.vectors[1:])


def test_what_is_not_near_is_not_kept_and_is_dropped_from_what_was() -> None:
    assert with_another(None, "m", 5, row(1), lambda _: False) is None
    before = Growing("m", (1, 2), np.stack([row(1), row(2)]))
    after = with_another(before, "m", 5, row(3), lambda one: not np.array_equal(one, row(1)))
    assert after is not None
    assert after.days == (2, 5)


def test_old_days_and_another_model_s_begin_anew() -> None:
    before = Growing("m", (1, 2), np.stack([row(1), row(2)]))
    old = with_another(before, "m", 2 + WITHIN_DAYS, row(3), always)
    assert old is not None
    assert old.days == (2, 2 + WITHIN_DAYS)
    other = with_another(before, "n", 2, row(3), always)
    assert other is not None
    assert (other.model, other.days) == ("n", (2,))


def enrolled_llr(voice: Voice, heard: Embedding) -> float:
    return SPEAKER.llr(heard, voice.vector)


@pytest.mark.parametrize("alike", [0.3, 0.5])
@pytest.mark.parametrize("forced", [1, 3, 24])
def test_who_is_let_in_by_force_never_walks_a_voiceprint_away_in_hundreds_of_histories(
    alike: float, forced: int
) -> None:
    """An attacker of that cosine to the person is let in on so many of 24 days, whatever the checks say, and
    the person on the others. At every day each score is within the bound of what the enrolled voiceprint
    alone says, and every row is near to that."""
    dice = np.random.default_rng([int(100 * alike), forced])
    opened_before = opened_since = 0
    for _ in range(HISTORIES):
        person = row(int(dice.integers(2**31)))
        apart = dice.standard_normal(SIZE)
        apart = unit(apart - (apart @ person) * person)
        attacker = unit(alike * person + np.sqrt(1 - alike**2) * apart)
        voice = Voice(person, FITTED_ON, follows=True)
        days = set(dice.choice(24, forced, replace=False).tolist())
        found: Growing | None = None
        for day in range(24):
            who = attacker if day in days else person
            heard = unit(who + 0.7 * unit(dice.standard_normal(SIZE)))
            after = with_another(found, "m", day, heard, lambda one, v=voice: near(SPEAKER, one, v))  # type: ignore[misc]
            found = found if after is None else after
        if found is None:
            continue
        assert min(enrolled_llr(voice, one) for one in found.vectors) >= NEAR_LLR - 1e-3
        mean = unit(found.vectors.mean(axis=0))
        assert float(mean @ person) >= (NEAR_LLR - OFFSET) / SCALE - 1e-3, "no farther than its rows"
        held = Voice(person, FITTED_ON, follows=True, followed=found.vectors)
        for _ in range(3):
            heard = unit(attacker + 0.7 * unit(dice.standard_normal(SIZE)))
            before = enrolled_llr(voice, heard)
            since = raised(SPEAKER, QUIET, heard, held, before)
            assert before <= since <= before + RAISES_LLR
            opened_before += before >= 3.0
            opened_since += since >= 3.0
    if alike <= 0.3:
        assert opened_since == opened_before == 0, "no stranger's attempt is ever near"
