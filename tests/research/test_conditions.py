"""What becomes of people in noise and over a telephone: asked again instead of guessed about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.liveness.condition import Conditions
from device.models.spoof.detector import SpoofDetector
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof
from quantize.playback import rms
from research.trials.conditions import in_noise, recordings, telephone, verdict

PEOPLE = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def detector() -> SpoofDetector:
    return open_spoof(models_dir())


@pytest.fixture(scope="module")
def reader() -> np.ndarray:
    found = recordings(PEOPLE, 1)
    if not found:
        pytest.skip("Debian package pocketsphinx-testdata is not installed")
    return found[0][1]


def test_a_telephone_is_asked_to_come_to_the_door(detector: SpoofDetector, reader: np.ndarray) -> None:
    assert verdict(detector, reader) == "accepted"
    assert verdict(detector, telephone(reader)) == "asked again"


def test_the_louder_the_noise_the_less_is_guessed(detector: SpoofDetector, reader: np.ndarray) -> None:
    noise = np.random.default_rng(0).standard_normal(4 * RATE_HZ).astype(np.float32)
    assert verdict(detector, in_noise(reader, noise, 40.0)) == "accepted"
    for snr_db in (Conditions().min_snr_db - 4.0, -10.0):
        assert verdict(detector, in_noise(reader, noise, snr_db)) in ("asked again", "not judged")
    assert verdict(detector, in_noise(reader, noise, -10.0)) == "not judged"


def test_noise_lies_as_far_below_the_voice_as_was_asked(reader: np.ndarray) -> None:
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    noisy = in_noise(reader, noise, 20.0)
    assert 20 * np.log10(rms(reader) / rms(noisy[: RATE_HZ // 2])) == pytest.approx(20.0, abs=0.5)


def test_recordings_come_evenly_from_the_folder_at_the_unit_s_rate(tmp_path: Path) -> None:
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", np.full(4_000, 0.1), 8_000)
    found = recordings(tmp_path, 3)
    assert [path.stem for path, _ in found] == ["0", "2", "4"]
    assert {len(wave) for _, wave in found} == {8_000}
