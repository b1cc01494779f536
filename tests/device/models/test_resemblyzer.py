from __future__ import annotations

import math

import numpy as np
import pytest

from device.models.resemblyzer import MEL_BANDS, Resemblyzer, mel_power, mel_windows, prepare
from device.models.words.log_mel import mel_filters


def tone(hz: float, seconds: float, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(16_000 * seconds)) / 16_000
    return (level * np.sin(2 * math.pi * hz * time)).astype(np.float32)


def test_a_tone_lands_in_the_band_whose_centre_is_nearest() -> None:
    # Slaney's scale: linear to 1 kHz (200/3 Hz a mel), then 27 steps for every factor of 6.4.
    top = 15 + 27 * math.log(8000 / 1000) / math.log(6.4)
    mels = np.linspace(0, top, 42)[1:-1]
    centres = [m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27) for m in mels]
    for hz in (300.0, 1000.0, 3000.0):
        loudest = int(mel_power(tone(hz, 1.0))[20:-20].mean(axis=0).argmax())
        assert abs(loudest - int(np.argmin(np.abs(np.array(centres) - hz)))) <= 1


def test_every_filter_has_unit_area() -> None:
    # Bins are 40 Hz apart, so the narrow triangles at the bottom are sampled coarsely.
    areas = mel_filters(MEL_BANDS).sum(axis=1) * 40.0
    assert areas[8:] == pytest.approx(np.ones(32), abs=0.05)


def test_power_agrees_with_a_transform_written_out() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)
    padded = np.concatenate([np.zeros(200), wave, np.zeros(200)])
    frame = padded[3 * 160 : 3 * 160 + 400]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)]
    power = [
        abs(sum(frame[n] * window[n] * np.exp(-2j * math.pi * k * n / 400) for n in range(400))) ** 2
        for k in range(201)
    ]
    assert mel_power(wave)[3] == pytest.approx(mel_filters(MEL_BANDS) @ np.array(power), rel=1e-4)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    # 1.6 s windows, 0.77 s apart; the last must be covered by three quarters, unless it is the only one.
    [(0.5, [0]), (1.6, [0]), (1.9, [0]), (2.0, [0, 77]), (4.0, [0, 77, 154, 231])],
)
def test_windows_follow_the_authors_rule(seconds: float, starts: list[int]) -> None:
    assert mel_windows(round(seconds * 16_000))[0] == starts


def test_quiet_speech_is_raised_and_loud_speech_left_alone() -> None:
    quiet, loud = tone(200, 1.0, 0.001), tone(200, 1.0, 0.5)
    assert 10 * math.log10(float(np.mean(prepare(quiet).astype(np.float64) ** 2))) == pytest.approx(
        -30, abs=0.5
    )
    assert np.abs(prepare(loud)).max() == pytest.approx(0.5, abs=1e-3)


def test_long_silences_are_cut_and_silence_alone_is_kept() -> None:
    speech = np.random.default_rng(1).normal(0, 0.2, 16_000).astype(np.float32)
    pause = np.zeros(5 * 16_000, dtype=np.float32)
    assert len(prepare(np.concatenate([speech, pause, speech]))) < 4 * 16_000
    assert len(prepare(pause)) == len(pause)


def test_the_embedding_is_the_mean_direction_of_the_windows() -> None:
    class Network:
        def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert inputs["mel"].shape[1:] == (160, 40)
            return [np.eye(256, dtype=np.float32)[: len(inputs["mel"])]]

    sound = np.random.default_rng(1).normal(0, 0.2, 64_000).astype(np.float32)
    voice = Resemblyzer(Network(), "under test").embed(sound)
    assert voice.shape == (256,)
    assert np.linalg.norm(voice) == pytest.approx(1.0)
    assert np.count_nonzero(voice) >= 2
