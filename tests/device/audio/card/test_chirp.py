"""The chirp, through rooms and poor devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.audio.card.chirp import analyse, chirp


def room(gain: float, noise: float, low_pass: int = 1) -> npt.NDArray[np.int16]:
    """What a microphone hears of the chirp after half a second, through an echoing room."""
    random = np.random.default_rng(2)
    sound = random.normal(0.0, noise, 40_000)
    sent = chirp().astype(float)
    echo = np.zeros(1_600)
    echo[0] = 1.0
    echo[1:] = random.normal(0.0, 0.05, 1_599) * np.exp(-np.arange(1_599) / 400)
    heard = np.convolve(sent, echo)
    if low_pass > 1:
        heard = np.convolve(
            heard, np.sinc(np.arange(-60, 61) / low_pass) * np.hamming(121) / low_pass, "same"
        )
    sound[8_000 : 8_000 + len(heard)] += gain * heard
    return np.clip(np.round(sound), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize(("gain", "noise"), [(1.0, 30.0), (0.1, 10.0), (0.03, 3.0)])
def test_a_chirp_is_heard_in_a_room(gain: float, noise: float) -> None:
    report = analyse(room(gain, noise))
    assert report.complaint == ""
    assert report.low_hz <= 300
    assert report.high_hz >= 6_000


@pytest.mark.parametrize("sound", [room(0.0, 300.0), np.zeros(40_000, np.int16), np.zeros(0, np.int16)])
def test_noise_and_silence_are_no_chirp(sound: npt.NDArray[np.int16]) -> None:
    report = analyse(sound)
    assert not report.heard
    assert "loudspeaker" in report.complaint


def test_a_covered_microphone_is_too_narrow() -> None:
    report = analyse(room(1.0, 30.0, low_pass=6))
    assert report.heard
    assert "too narrow" in report.complaint


@pytest.mark.parametrize("gain", [0.003, 0.0006])
def test_a_chirp_that_is_hardly_heard_asks_for_more_volume_and_not_for_another_microphone(
    gain: float,
) -> None:
    report = analyse(room(gain, 0.3))
    assert report.heard
    assert "turn up the loudspeaker" in report.complaint


def test_a_chirp_does_not_overdrive() -> None:
    assert 0.2 < np.abs(chirp()).max() / 32_768 < 0.3
