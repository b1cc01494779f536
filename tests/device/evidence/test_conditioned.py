from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device.audio.utterance import Quality
from device.evidence.conditioned import MOST_SHIFT, ByPlace, Conditioned, Place, shipped

DESK = Quality(speech_s=2.0, snr_db=35.0, clipped_fraction=0.0, level_dbfs=-20.0, bandwidth_hz=8_000.0)
LOUD = replace(DESK, snr_db=10.0)
LIVELY = replace(DESK, decay_db_s=90.0)
SHIFT, SPREAD = ByPlace(-1.0, 3.0, 0.5), ByPlace(1.0, 0.0, 0.0)
TABLE = Conditioned("t", "d-1", SHIFT, SPREAD, {"bpcer_3": 0.4})


def test_the_score_is_moved_by_noise_and_by_a_room() -> None:
    assert TABLE.llr("d-1", 2.0, DESK) == pytest.approx(1.0)
    assert TABLE.llr("d-1", 2.0, LOUD) == pytest.approx(4.0)
    assert TABLE.llr("d-1", 2.0, LIVELY) == pytest.approx(1.5)


def test_the_moved_score_is_stretched_by_place_and_its_zero_stays() -> None:
    narrow = replace(TABLE, spread=ByPlace(0.8, 0.2, -0.4))
    assert narrow.llr("d-1", 2.0, DESK) == pytest.approx(1.0 / 0.8)
    assert narrow.llr("d-1", 2.0, LOUD) == pytest.approx(4.0)
    assert narrow.llr("d-1", 2.0, LIVELY) == pytest.approx(1.5 / 0.4)
    assert narrow.llr("d-1", 1.0, DESK) == pytest.approx(0.0)
    assert narrow.llr("d-1", 0.5, LIVELY) == pytest.approx(0.0)
    assert narrow.llr("d-2", 2.0, DESK) == 2.0
    assert narrow.llr("d-1", 11.9, LOUD) == 12.0


@pytest.mark.parametrize(
    "spread",
    [
        (0.0, 0.0, 0.0),
        (-1.0, 0.0, 0.0),
        (2.1, 0.0, 0.0),
        (1.0, 0.0, -0.8),
        (1.0, 0.6, 0.5),
        (math.inf, 0.0, 0.0),
        (1.0, math.nan, 0.0),
    ],
)
def test_a_table_by_which_people_spread_by_nothing_sensible_somewhere_is_refused(
    spread: tuple[float, float, float],
) -> None:
    with pytest.raises(ValueError, match="people spread"):
        replace(TABLE, spread=ByPlace(*spread))


def test_another_detector_keeps_its_own_scores_and_points() -> None:
    assert TABLE.llr("d-2", 0.7, LOUD) == 0.7
    assert TABLE.points("d-2", {"bpcer_3": 2.0}) == {"bpcer_3": 2.0}
    assert TABLE.points("d-1", {"bpcer_3": 2.0}) == {"bpcer_3": 0.4}


def test_what_is_no_number_stays_none() -> None:
    assert math.isnan(TABLE.llr("d-1", math.nan, DESK))
    assert math.isfinite(TABLE.llr("d-1", 1.0, replace(DESK, snr_db=math.nan)))


@pytest.mark.parametrize(
    ("quality", "place"),
    [
        (DESK, (0.0, 0.0)),
        (LOUD, (1.0, 0.0)),
        (LIVELY, (0.0, 1.0)),
        (replace(DESK, snr_db=20.0), (0.5, 0.0)),
        (replace(DESK, decay_db_s=math.inf, snr_db=-5.0), (1.0, 0.5)),
    ],
)
def test_a_place_is_what_was_measured_within_its_bounds(quality: Quality, place: tuple[float, float]) -> None:
    found = Place.of(quality)
    assert (found.noise, found.echo) == pytest.approx(place)


def test_a_table_that_moves_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="moves an LLR by more"):
        replace(TABLE, shift=ByPlace(-1.0, MOST_SHIFT + 2.0, 0.5))
    with pytest.raises(ValueError, match="not a number"):
        replace(TABLE, shift=ByPlace(math.nan, 3.0, 0.5))


def test_the_shipped_table_is_whole_and_of_the_detector_in_the_tree() -> None:
    import json
    from pathlib import Path

    import quantize

    card = json.loads((Path(quantize.__file__).parent / "train/weights/spoof.json").read_text())
    table = shipped()
    assert table.detector == card["version"]
    points = table.operating_points
    assert points["bpcer_1"] < points["bpcer_3"] < points["bpcer_5"]


@pytest.mark.parametrize(
    "damage",
    [
        ("[shift]", "[other]"),
        ("always = ", "always = 99 # "),
        ("bpcer_1 = ", "bpcer_1 = nan # "),
        ("[spread]", "[wide]"),
        ("echo = ", "echos = "),
    ],
)
def test_a_damaged_table_is_refused(damage: tuple[str, str]) -> None:
    from importlib.resources import files

    text = (files("device.evidence") / "conditions.toml").read_text("utf-8")
    with pytest.raises((ValueError, KeyError)):
        Conditioned.from_text(text.replace(*damage, 1))
