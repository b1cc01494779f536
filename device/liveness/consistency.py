"""Scores whether one voice speaks from beginning to end: a splice of two people changes it on the way.

The speaker network embeds the two halves of the speech; their cosine is the score. It costs two more passes,
so the judge asks only when the whole is not clearly the claimed person's.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

MIN_HALF_S = 1.0
"""Shorter, and the network's own scatter is larger than the difference between people."""
ASKED_BELOW_LLR = 6.0


class Embedder(Protocol):
    def embed(self, wave: Floats) -> npt.NDArray[np.float32]: ...


def score(speaker: Embedder, speech: Floats) -> float | None:
    """Cosine of the voices in the two halves of `speech` (n,) at 16 kHz; None when it is too short."""
    half = len(speech) // 2
    if half < MIN_HALF_S * SAMPLE_RATE_HZ:
        return None
    first, second = speaker.embed(speech[:half]), speaker.embed(speech[half:])
    cosine = float(np.dot(first, second))
    first[:] = 0.0
    second[:] = 0.0
    return cosine
