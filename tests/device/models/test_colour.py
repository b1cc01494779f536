"""The way sound came: level is taken out, what plays it is not, and a print is one of both parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.models.spoof.colour import BANDS, COLOURS, colour
from device.models.spoof.prints import SEEN, seen
from quantize.playback import Loudspeaker, play

Wave = npt.NDArray[np.float32]


def speechlike(seconds: float = 2.0, seed: int = 1) -> Wave:
    """Noise whose level rises and falls like syllables."""
    dice = np.random.default_rng(seed)
    count = int(16_000 * seconds)
    level = 0.6 + 0.4 * np.sin(2 * np.pi * 4.0 * np.arange(count) / 16_000)
    made: Wave = (0.1 * level * dice.standard_normal(count)).astype(np.float32)
    return made


def test_how_loud_it_was_leaves_no_trace() -> None:
    wave = speechlike()
    assert np.allclose(colour(wave), colour(0.1 * wave), atol=1e-3)


def test_a_loudspeaker_shows_where_it_plays_nothing() -> None:
    small = Loudspeaker(low_hz=500.0, high_hz=4_000.0, order=4, drive=0.3)
    plain, played = colour(speechlike()), colour(play(small, speechlike()))
    lost = plain[:BANDS] - played[:BANDS]
    assert min(lost[0], lost[BANDS - 1]) > 3.0
    assert lost[BANDS // 2] < 0.0  # what it does play stands out


def test_there_are_as_many_numbers_for_any_speech_and_all_are_finite() -> None:
    for wave in (speechlike(0.5), speechlike(6.0), np.eye(1, 16_000, 8_000, dtype=np.float32)[0]):
        found = colour(wave)
        assert found.shape == (COLOURS,)
        assert np.isfinite(found).all()
        assert seen(wave).shape == (SEEN,)
