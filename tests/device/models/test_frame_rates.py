"""The beat of a machine's frames: found where there is one, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from device.models.spoof import frame_rates as rates
from device.models.spoof.norms import (
    MOST_OF_PRODUCTS,
    PRODUCTS_WEIGHT,
    BonaFideNorms,
    FrameRateEvidence,
)

WEIGHTS = Path(__file__).parents[3] / "quantize" / "train" / "weights"
PEOPLE = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE_HZ = 16_000

Wave = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def norms() -> BonaFideNorms:
    fields = json.loads((WEIGHTS / "spoof.json").read_bytes())["null"]
    return BonaFideNorms(**{name: np.array(part) for name, part in fields.items()})


@pytest.fixture(scope="module")
def people() -> list[Wave]:
    found = sorted(PEOPLE.glob("*.wav"))
    if not found:
        pytest.skip("Debian package pocketsphinx-testdata is not installed")
    return [soundfile.read(path, dtype="float32")[0][: 5 * RATE_HZ] for path in found]


def framed(wave: Wave, rate_hz: float, depth: float) -> Wave:
    """`wave` as if made in frames: its high frequencies come a little louder at the start of each."""
    phase = (np.arange(len(wave)) * rate_hz / RATE_HZ) % 1.0
    high = np.diff(wave, n=2, prepend=0.0, append=0.0)[: len(wave)]
    return (wave + depth * high * (phase < 0.25)).astype(np.float32)


def loudest_rate(norms: BonaFideNorms, wave: Wave) -> tuple[float, float]:
    """The rate that stands out most, and by how many standard deviations of people."""
    found = norms.compare(rates.frame_rates(wave), len(wave) / RATE_HZ)
    return found.rate_hz, float(found.deviations.max())


def shares_multiples(one_hz: float, other_hz: float) -> bool:
    """Whether few multiples of the one are multiples of the other."""
    ratio = one_hz / other_hz
    return float(Fraction(ratio).limit_denominator(5)) == pytest.approx(ratio, rel=1e-3)


def test_no_rate_stands_out_of_people(norms: BonaFideNorms, people: list[Wave]) -> None:
    assert all(loudest_rate(norms, wave)[1] < 4.0 for wave in people)


@pytest.mark.parametrize("rate_hz", rates.FRAME_RATES_HZ)
def test_frames_of_every_rate_stand_out(norms: BonaFideNorms, people: list[Wave], rate_hz: float) -> None:
    found, deviations = loudest_rate(norms, framed(people[0], rate_hz, 0.5))
    assert deviations > 6.0
    assert shares_multiples(found, rate_hz)


def test_frames_are_found_in_speech_that_was_played_faster_or_slower(
    norms: BonaFideNorms, people: list[Wave]
) -> None:
    made = framed(people[0], 80.0, 0.5)
    for speed in (0.97, 0.99, 1.003, 1.03):
        played = soxr.resample(made, RATE_HZ * speed, RATE_HZ)
        rate_hz, deviations = loudest_rate(norms, played.astype(np.float32))
        assert deviations > 5.0
        assert shares_multiples(rate_hz, 80.0 * speed)


def test_a_level_that_never_falls_is_noise_and_silence_between_words_is_none() -> None:
    level = np.ones((3, 1_000))
    level[1, ::2] = 1e-6
    level[2, :100] = 1e3
    heard = rates.heard_above_noise(level)
    assert heard[0].max() == 0.0
    assert heard[1].min() == 1.0
    assert heard[2, :100].min() > 0.99
    assert heard[2, 100:].max() < 1.0


def test_what_is_never_quiet_counts_by_how_far_it_stands_above_its_quietest() -> None:
    level = np.full((1, 1_000), 0.1)
    level[0, ::5] = 1.0
    heard = rates.heard_above_noise(level)[0]
    assert heard[1::5].max() == 0.0
    assert heard[::5].min() == pytest.approx(1.0 - rates.NOISE_MARGIN * 0.1)


def test_a_place_is_clear_where_bands_fall_silent_and_not_where_noise_fills_them() -> None:
    noise, silent = np.ones((3, 1_000)), np.ones((3, 1_000))
    silent[:, ::5] = 1e-6
    between = np.ones((3, 1_000))
    between[:, ::5] = 0.8 * 10 ** (sum(rates.CLEAR) / 2)
    assert rates.clear_of_noise(noise) == 0.0
    assert rates.clear_of_noise(silent) == 1.0
    assert rates.clear_of_noise(between) == pytest.approx(0.5, abs=0.05)


def test_products_at_any_rate_tell_a_beat_and_in_noise_they_tell_nothing(
    norms: BonaFideNorms, people: list[Wave]
) -> None:
    played = soxr.resample(framed(people[0], 80.0, 0.5), RATE_HZ * 1.007, RATE_HZ).astype(np.float32)
    noise = 0.1 * played.std() * np.random.default_rng(3).standard_normal(len(played))
    heard, plain, noisy = (
        norms.compare(rates.frame_rates(wave.astype(np.float32)), len(wave) / RATE_HZ).products
        for wave in (played, people[0], played + noise)
    )
    assert heard > 3.0
    assert plain < 2.0
    assert noisy == 0.0


def test_products_count_beside_the_sum_and_no_more_than_so_much() -> None:
    quiet = np.full(10, -1.0)
    none, some, much, more = (FrameRateEvidence(quiet, p, 80.0).score for p in (-5.0, 0.5, 5.0, 50.0))
    assert none - some == pytest.approx(0.5 * PRODUCTS_WEIGHT)
    assert none - much == pytest.approx(PRODUCTS_WEIGHT * MOST_OF_PRODUCTS)
    assert more == much


def test_what_is_measured_is_of_the_form_that_norms_are_fitted_to() -> None:
    beat = np.sin(2 * np.pi * 3_000 * np.arange(32_000) / RATE_HZ) * (np.arange(32_000) % 200 < 50)
    wave = (0.1 * beat + 0.01 * np.random.default_rng(1).standard_normal(32_000)).astype(np.float32)
    found = rates.frame_rates(wave)
    measured = [*found.listed[4], *found.searched[:: len(found.searched) // 2].mean(axis=1), found.clear]
    assert rates.FORM == 3, "a new form: fit anew (`python -m research.detector people`), and state it here"
    np.testing.assert_allclose(
        measured, [0.5829, 2.967, -0.012, 1.0941, 0.575, 2.4668, 0.347, 0.4362, 0.4468, 0.0], atol=1e-3
    )


def test_a_length_that_transforms_badly_gives_the_same_answer(people: list[Wave]) -> None:
    short = people[0][: 3_989 * 16]
    assert rates.fast_length(3_989) == 4_000
    padded, exact = rates.frame_rates(short), rates.frame_rates(people[0][: 4_000 * 16])
    assert np.abs(padded.listed - exact.listed).mean() < 0.03
    assert np.abs(padded.listed - rates.frame_rates(people[1][: 4_000 * 16]).listed).mean() > 0.06


def test_gain_filters_and_an_echo_leave_the_beat(norms: BonaFideNorms, people: list[Wave]) -> None:
    made = framed(people[1], 80.0, 0.5)
    echo = np.zeros(1_600, np.float32)
    echo[[0, 500, 1_599]] = 1.0, 0.5, 0.3
    through = np.convolve(0.1 * made, echo)[: len(made)].astype(np.float32)
    rate_hz, deviations = loudest_rate(norms, through)
    assert shares_multiples(rate_hz, 80.0)
    assert deviations > 5.0


def test_loudness_does_not_matter(people: list[Wave]) -> None:
    loud, quiet = (rates.frame_rates(gain * people[2]) for gain in (1.0, 1e-3))
    np.testing.assert_allclose(loud.listed, quiet.listed, atol=1e-3)
    np.testing.assert_allclose(loud.searched, quiet.searched, atol=1e-3)


def test_mains_hum_is_no_beat(norms: BonaFideNorms, people: list[Wave]) -> None:
    seconds = np.arange(len(people[3])) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50.0 * k * seconds) / k for k in range(1, 20))
    wave = people[3] + 0.03 * np.abs(people[3]).max() * hum
    assert loudest_rate(norms, wave.astype(np.float32))[1] < 4.0


def test_noise_of_any_length_stays_within_what_people_give(norms: BonaFideNorms) -> None:
    rng = np.random.default_rng(7)
    for samples in (8_000, 8_001, 23_456, 65_536, 96_000):
        wave = rng.standard_normal(samples).astype(np.float32)
        found = rates.frame_rates(wave)
        assert found.listed.shape == (len(rates.FRAME_RATES_HZ), len(rates.STATISTICS))
        assert found.searched.shape == (len(rates.ANY_RATE_HZ), len(rates.SEARCHED))
        assert np.isfinite(found.listed).all()
        assert np.isfinite(found.searched).all()
        assert loudest_rate(norms, wave)[1] < 4.5


def test_almost_silence_and_a_click_give_finite_answers(norms: BonaFideNorms) -> None:
    click = np.zeros(16_000, np.float32)
    click[8_000] = 1.0
    for wave in (
        click,
        np.full(16_000, 1e-7, np.float32),
        np.sign(np.sin(np.arange(16_000))).astype(np.float32),
    ):
        found = norms.compare(rates.frame_rates(wave), 1.0)
        assert np.isfinite(found.deviations).all()
        assert np.isfinite(found.score)


@pytest.mark.parametrize("part", BonaFideNorms.__slots__)
def test_norms_of_the_wrong_shape_or_without_numbers_is_refused(norms: BonaFideNorms, part: str) -> None:
    right = getattr(norms, part)
    for wrong, said in ((right[:, :-1], "shape"), (right * np.nan, "not a number")):
        with pytest.raises(ValueError, match=said):
            replace(norms, **{part: wrong})


@pytest.mark.parametrize("part", [name for name in BonaFideNorms.__slots__ if "spread" in name])
def test_norms_with_a_spread_of_nothing_is_refused(norms: BonaFideNorms, part: str) -> None:
    with pytest.raises(ValueError, match="not above zero"):
        replace(norms, **{part: 0.0 * getattr(norms, part)})
