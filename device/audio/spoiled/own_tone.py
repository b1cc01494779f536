"""The door's own tone, taken out of what the microphone heard meanwhile: somebody may have begun to speak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Samples

HARMONICS = 3
"""A small loudspeaker adds the double and the triple."""
HALF_WIDTH_HZ = 30.0
"""What a tone of a tenth of a second is wide."""


def without_tone(samples: Samples, tones_hz: Sequence[float]) -> Samples:
    """`samples` (n,) less a narrow band about each tone and its harmonics."""
    if len(samples) == 0:
        return samples
    spectrum = rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE_HZ)
    for tone_hz in tones_hz:
        for harmonic in range(1, HARMONICS + 1):
            spectrum[np.abs(hz - harmonic * tone_hz) <= HALF_WIDTH_HZ] = 0.0
    left: Samples = np.clip(np.round(np.fft.irfft(spectrum, len(samples))), -32768, 32767).astype(np.int16)
    return left
