"""Edits: the same for the same seed, with joins where they are said to be and the host elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from quantize.evaluate.recordings.editing import CAREFUL, DELETED, EDITS, HARD, INSERTED, able, edit
from quantize.evaluate.recordings.splicing import Source, Splice
from tests.quantize.evaluate.recordings.test_splicing import RATE_HZ, person, voice

HOST, GIVER = 110.0, 140.0


def drawn(kind: str, way: str) -> Splice:
    for seed in range(60):
        made = edit(person("digits"), kind, np.random.default_rng(seed))
        if made is not None and made.way == way:
            return made
    raise AssertionError(f"no {way} {kind} in 60 draws")


@pytest.mark.parametrize("kind", EDITS)
def test_a_seed_names_an_edit(kind: str) -> None:
    first, second = (edit(person("digits"), kind, np.random.default_rng(7)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.wave, second.wave)
    assert first.joins_s == second.joins_s
    assert len(first.joins_s) == (1 if kind == DELETED else 2)
    assert all(0.0 < at < len(first.wave) / RATE_HZ for at in first.joins_s)
    assert np.abs(first.wave).max() < 1.0


@pytest.mark.parametrize("way", [HARD, CAREFUL])
def test_before_the_first_join_and_after_the_last_the_recording_is_its_own(way: str) -> None:
    made = drawn(INSERTED, way)
    host = next(one.wave for one in person("digits") if one.path == made.paths[0])
    first, last = (round(at * RATE_HZ) for at in made.joins_s)
    around = RATE_HZ // 20
    scale = made.wave[first // 2] / host[first // 2]
    assert np.allclose(made.wave[: first - around], host[: first - around] * scale, atol=1e-4)
    rest = len(made.wave) - last - around
    assert np.allclose(made.wave[-rest:], host[-rest:] * scale, atol=1e-4)
    assert len(made.wave) > len(host)


def test_a_deleted_word_makes_the_recording_shorter_by_what_was_said() -> None:
    made = drawn(DELETED, HARD)
    host = next(one.wave for one in person("digits") if one.path == made.paths[0])
    gone = (len(host) - len(made.wave)) / RATE_HZ
    assert gone == pytest.approx(2 / 3, abs=0.01) or gone == pytest.approx(4 / 3, abs=0.01)
    assert made.paths == (made.paths[0],)


def test_of_one_recording_what_is_put_in_comes_from_another_place_in_it() -> None:
    alone = [Source("one", voice(HOST, 8.0))]
    made = [edit(alone, INSERTED, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(one is not None for one in made) > 5
    assert all(one.paths == ("one", "one") and len(one.joins_s) == 2 for one in made if one is not None)


def test_a_careful_edit_leaves_no_step_at_its_joins() -> None:
    made = drawn(INSERTED, CAREFUL)
    steps = np.abs(np.diff(made.wave))
    for at_s in made.joins_s:
        at = round(at_s * RATE_HZ)
        assert steps[at - 400 : at + 400].max() <= np.quantile(steps, 0.999)


def test_somebody_of_whom_too_little_is_known_is_not_edited() -> None:
    bare = [Source("one", voice(HOST, 0.5)), Source("other", voice(GIVER, 0.5))]
    assert not able(bare)
    assert not able([])
    assert able(person("digits"))
    assert all(edit(bare, kind, np.random.default_rng(n)) is None for kind in EDITS for n in range(5))
    with pytest.raises(ValueError, match="no edit"):
        edit(person("digits"), "improved", np.random.default_rng(1))
