"""The transform of sound gives the same on NumPy 1 and 2, and nothing in the product goes past it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from device.audio.spectrum import rfft

DEVICE = Path(__file__).parents[3] / "device"


def test_sound_in_single_precision_is_transformed_in_double() -> None:
    wave = np.random.default_rng(1).normal(size=(3, 400)).astype(np.float32)
    found = rfft(wave, 512, axis=1)
    assert found.dtype == np.complex128
    assert np.array_equal(found, np.fft.rfft(wave.astype(np.float64), 512, axis=1))


def test_no_other_module_of_the_unit_transforms_sound_by_itself() -> None:
    own = re.compile(r"np\.fft\.(rfft|hfft)\(|scipy\.fft")
    loose = {path.name for path in DEVICE.rglob("*.py") if own.search(path.read_text())}
    assert loose == {"spectrum.py"}
