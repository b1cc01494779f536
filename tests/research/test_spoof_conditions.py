from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy", reason="pip install '.[train]'")

from quantize.errors import QuantizeError
from quantize.evaluate.door.heard import Surroundings
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from research.spoof.conditions import PLAIN, Door, Found, cells, drawn, llrs, run, unheard
from research.spoof.redteam import Knobs, first_open, in_turn, share

CARD = ("known_demo bonafide", "known_demo spoof", "libri bonafide", "made:kokoro spoof")


def listed(path: str, system: str = "", speaker: str = "") -> Recording:
    return Recording(path, "spoof" if system else "bonafide", speaker, system, "", "", "")


def test_what_the_detector_heard_under_any_name_judges_nothing() -> None:
    people = ["new_demo/bonafide/a.flac", "known_demo/bonafide/a.flac", "libri/1/a.flac", "digits8k/a.flac"]
    attacks = [
        ("known_demo/st_valle/a.flac", "st_VallE"),
        ("new_demo/valle/a.flac", "valle"),
        ("kokoro_demo/kokoro/a.flac", "kokoro"),
        ("new_demo/koel/a.flac", "koel"),
    ]
    recordings = [*(listed(path) for path in people), *(listed(*attack) for attack in attacks)]
    found = unheard(recordings, CARD)
    assert [[one.path for one in side] for side in found] == [
        ["new_demo/bonafide/a.flac"],
        ["new_demo/koel/a.flac"],
    ]


def test_people_on_whom_the_zero_was_fitted_judge_nothing() -> None:
    speakers = [f"s{n}" for n in range(20)]
    recordings = [listed(f"indian_english/{name}/a.flac", speaker=name) for name in speakers]
    people, _ = unheard(recordings, CARD)
    assert {one.speaker for one in people} == {name for name in speakers if not fits(name)}
    assert 0 < len(people) < 20


def test_no_system_counts_more_often_than_asked_and_a_larger_draw_holds_a_smaller() -> None:
    recordings = [listed(f"p/{system}/{n}.flac", system) for system in "xy" for n in range(9)]
    few, more = (drawn([*recordings, listed("p/z/0.flac", "z")], most) for most in (4, 6))
    assert [one.system for one in few] == ["x"] * 4 + ["y"] * 4 + ["z"]
    assert {one.path for one in few} < {one.path for one in more}


def test_sounds_that_are_asked_for_again_count_apart() -> None:
    people = [Found(False, llr) for llr in (-1.0, 1.0, 2.0, 3.0)] + [Found(True)]
    attacks = [Found(False, llr) for llr in (-3.0, -2.0, -1.5, 0.5)]
    assert llrs(people).tolist() == [-1.0, 1.0, 2.0, 3.0]
    rate, accepted, refused, again, again_attacks = cells(people, attacks)
    assert rate.startswith("25.0%")
    assert (accepted.split()[0], refused.split()[0], again, again_attacks) == ("25.0%", "25.0%", "20%", "0%")


@pytest.mark.parametrize("content", ["no json", '{"key": "a"}', '{"key": "a", "asked": false, "x": 1}', "[]"])
def test_a_file_of_scores_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    keep = tmp_path / "scores.jsonl"
    keep.write_text(content)
    with pytest.raises(QuantizeError, match=r"scores\.jsonl holds no scores"):
        Door.open(Surroundings(tmp_path), keep)


def test_scores_that_other_code_kept_are_not_taken_for_todays(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", 0.2 * np.sin(np.arange(8_000)), 16_000)
    keep, short = tmp_path / "scores.jsonl", listed("a.flac")
    first = Door.open(Surroundings(tmp_path), keep)
    first.found(short, PLAIN)
    kept = keep.read_text().splitlines()
    Door.open(Surroundings(tmp_path), keep).found(short, PLAIN)
    assert keep.read_text().splitlines() == kept
    replace(Door.open(Surroundings(tmp_path), keep), code="as it was").found(short, PLAIN)
    assert len(keep.read_text().splitlines()) == len(kept) + 1


def test_at_least_one_file_of_each_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="--most"):
        run(tmp_path, None, 0)


def speech() -> np.ndarray:
    dice = np.random.default_rng(3)
    return (0.1 * dice.standard_normal(16_000) * np.hanning(16_000)).astype(np.float32)


def test_knobs_that_nobody_turned_leave_the_sound_as_it_is() -> None:
    wave = speech()
    changed = Knobs()(wave, np.random.default_rng(0))
    assert len(changed) == len(wave)
    assert np.corrcoef(wave, changed)[0, 1] > 1.0 - 1e-6


@pytest.mark.parametrize("knob", Knobs.__slots__)
def test_every_knob_changes_the_sound(knob: str) -> None:
    wave = speech()
    changed = Knobs(**{knob: 0.9})(wave, np.random.default_rng(0))
    assert np.isfinite(changed).all()
    length = min(len(wave), len(changed))
    assert np.corrcoef(wave[:length], changed[:length])[0, 1] < 1.0 - 1e-6


def test_knobs_stay_in_their_ranges() -> None:
    dice = np.random.default_rng(0)
    knobs = Knobs()
    for _ in range(200):
        knobs = knobs.near(dice)
        for one in (knobs, Knobs.drawn(dice)):
            values = [getattr(one, name) for name in Knobs.__slots__]
            assert min(values) >= 0.0
            assert max(values) <= 1.0


class Gate:
    """A door that takes what lies above a level; the level is also its LLR."""

    threshold = 0.0

    def __init__(self, level: float, words: bool = True) -> None:
        self.level, self.words, self.asked = level, words, 0

    def llr(self, wave: np.ndarray) -> float:
        self.asked += 1
        return float(np.abs(wave).max()) - self.level

    def passes(self, wave: np.ndarray) -> bool:
        return self.words


def louder(best: Knobs) -> Knobs:
    return Knobs(speed=best.speed + 0.1)


def test_the_first_try_that_opens_is_counted_and_each_starts_from_the_best_so_far() -> None:
    def played(knobs: Knobs) -> np.ndarray:
        return np.full(4, knobs.speed, np.float32)

    assert first_open(played, Gate(0.45), 9, louder) == 0
    assert first_open(played, Gate(0.75), 9, louder) == 3
    assert first_open(played, Gate(0.75), 2, louder) is None
    gate = Gate(0.45, words=False)
    assert first_open(played, gate, 5, louder) is None
    assert gate.asked == 6


def test_shares_are_of_all_fakes() -> None:
    found = [0, 3, None, 5]
    assert [share(found, tries).hits for tries in (0, 2, 3, 5)] == [1, 1, 2, 3]
    assert share(found, 0).of == 4


def test_every_system_is_tried_once_before_one_is_tried_again() -> None:
    attacks = [listed(f"p/{system}/{n}.flac", system) for system in "ab" for n in range(2)]
    assert [one.path for one in in_turn(attacks)] == [
        "p/a/0.flac",
        "p/b/0.flac",
        "p/a/1.flac",
        "p/b/1.flac",
    ]
