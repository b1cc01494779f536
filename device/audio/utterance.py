"""What one attempt sounded like: samples, timings and quality, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1_000

Samples = npt.NDArray[np.int16]
"""Mono PCM at 16 kHz, shape (n,)."""


Wave = npt.NDArray[np.float32]
"""Mono speech at 16 kHz in [-1, 1), shape (n,)."""


def to_wave(samples: Samples) -> Wave:
    """A copy of `samples` as a wave."""
    return samples.astype(np.float32) / np.float32(32768.0)


def wipe(samples: Samples) -> None:
    """Overwrite samples that were heard and are no longer needed."""
    if samples.flags.writeable:
        samples[:] = 0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """20 ms of sound: `FRAME_SAMPLES` samples, and how many were lost just before them."""

    samples: Samples
    lost_samples: int = 0
    own_tone: bool = False
    """The door's own tone sounded in it and was taken out: kept for a word that began there, and no onset."""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.int16 or self.samples.shape != (FRAME_SAMPLES,):
            raise ValueError(
                f"a frame is int16 of shape ({FRAME_SAMPLES},), not {self.samples.dtype} {self.samples.shape}"
            )
        if self.lost_samples < 0:
            raise ValueError("lost samples cannot be negative")


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable an utterance is. Levels are relative to int16 full scale."""

    speech_s: float
    """Seconds that the voice activity detector called speech; 0 when none of it has a voice's pitch."""
    snr_db: float
    clipped_fraction: float
    """Of the samples during speech."""
    level_dbfs: float
    """Root mean square during speech."""
    bandwidth_hz: float
    """The highest frequency at which the spectrum carries speech: about 3.4 kHz for a telephone, 8 kHz at
    most. A mirror image of what lies lower, as cheap resampling leaves it, is no speech."""
    decay_db_s: float = 270.0
    """The fastest fall of the level: 270 beside the mouth, 60 over the reverberation time in a room; 0
    where it cannot be told."""
    whispered_s: float = 0.0
    """Seconds of speech whose level moves as speech does and that has no voice in it."""
    filled: bool = False
    """Whether blocks of it were lost on the way, and filled, closed up or covered with a copy."""
    steady_lines: int = 0
    """Lines of one exact pitch from beginning to end: buzz, alarms."""
    lull_db: float = 60.0
    """How far the speech stands above the quietest moments around and between its words."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One stretch of speech. `samples` is int16, mono, 16 kHz; it exists in memory only."""

    samples: Samples
    speech_start_s: float
    """From the start of `samples` to the first voiced frame."""
    speech_end_s: float
    """From the start of `samples` to the end of the last voiced frame."""
    quality: Quality
    earlier_s: float = 0.0
    """Seconds of the same speech that fell out of the window before `samples` begins."""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.int16 or self.samples.ndim != 1:
            raise ValueError(
                f"samples must be int16 of shape (n,), not {self.samples.dtype} {self.samples.shape}"
            )
        if not 0.0 <= self.speech_start_s <= self.speech_end_s <= self.duration_s + 1e-6:
            raise ValueError("speech must lie inside the samples")
        if not self.earlier_s >= 0.0:
            raise ValueError("earlier speech cannot be negative")

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def wave(self) -> Wave:
        """`to_wave` of the samples."""
        return to_wave(self.samples)

    def wipe(self) -> None:
        """Overwrite the samples; call it when the decision has been made."""
        wipe(self.samples)
