"""What one attempt sounded like: samples, timings and quality, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 320  # 20 ms

Samples = npt.NDArray[np.int16]
"""Mono PCM at 16 kHz, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable an utterance is. Levels are relative to int16 full scale."""

    speech_s: float
    snr_db: float
    clipped_fraction: float
    level_dbfs: float
    bandwidth_hz: float


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One stretch of speech. `samples` is int16, mono, 16 kHz; it exists in memory only."""

    samples: Samples
    speech_start_s: float
    """From the start of `samples` to the first voiced frame."""
    speech_end_s: float
    """From the start of `samples` to the end of the last voiced frame."""
    quality: Quality

    def __post_init__(self) -> None:
        if self.samples.dtype != np.int16 or self.samples.ndim != 1:
            raise ValueError(
                f"samples must be int16 of shape (n,), not {self.samples.dtype} {self.samples.shape}"
            )
        if not 0.0 <= self.speech_start_s <= self.speech_end_s <= self.duration_s + 1e-6:
            raise ValueError("speech must lie inside the samples")

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def wave(self) -> npt.NDArray[np.float32]:
        """The samples as float32 in [-1, 1), shape (n,)."""
        return self.samples.astype(np.float32) / 32768.0

    def wipe(self) -> None:
        """Overwrite the samples; call it when the decision has been made."""
        if self.samples.flags.writeable:
            self.samples[:] = 0
