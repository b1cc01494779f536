"""Sounds that tests make: speech-like tones, noises, and the broken files that a door must refuse."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import SAMPLE_RATE_HZ, Flaw, Frame, QualityError, Samples
from device.audio.utterance import FRAME_SAMPLES

Wave = npt.NDArray[np.float64]


@contextmanager
def refused(*codes: Flaw, match: str | None = None) -> Iterator[None]:
    """What is done inside must be refused, with one of these codes and words to that effect."""
    with pytest.raises(QualityError, match=match) as error:
        yield
    assert error.value.code in codes


def flaw_of(found: object) -> Flaw | None:
    """The code of a refusal; None for anything else."""
    return found.code if isinstance(found, QualityError) else None


def tone(seconds: float, level: float = 8_000.0, pitch_hz: float = 125.0) -> Samples:
    """A buzz with a voice's pitch and harmonics."""
    at = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * pitch_hz * order * at) / order for order in range(1, 12))
    return (level * harmonics / 2).astype(np.int16)


def hush(seconds: float, level: float = 30.0, seed: int = 1) -> Samples:
    """White noise; quiet enough by default to stand for a silent room."""
    noise = np.random.default_rng(seed).normal(0.0, level, round(seconds * SAMPLE_RATE_HZ))
    return np.clip(noise, -32768, 32767).astype(np.int16)


def coughing(dice: np.random.Generator, times: int = 3) -> Wave:
    """A fit of coughing, peak 1: noise that bursts out and dies away within 0.3 s, with a throat's ring."""
    parts: list[Wave] = []
    for _ in range(times):
        at = np.arange(round(dice.uniform(0.15, 0.3) * SAMPLE_RATE_HZ))
        burst = dice.normal(size=len(at)) * np.minimum(at / 64.0, 1.0) * np.exp(-at / (0.4 * len(at)))
        ring = np.exp(-np.arange(200) / 40.0) * np.cos(2 * np.pi * 1_400 / SAMPLE_RATE_HZ * np.arange(200))
        parts += [np.convolve(burst, ring)[: len(at)], np.zeros(round(dice.uniform(0.05, 0.2) * 16_000))]
    whole = np.concatenate(parts)
    return np.asarray(whole / np.abs(whole).max(), np.float64)


def join(*parts: Samples) -> Samples:
    return np.concatenate(parts)


def frames(samples: Samples) -> list[Frame]:
    """Whole frames only."""
    count = len(samples) // FRAME_SAMPLES
    return [Frame(piece.copy()) for piece in samples[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)]


class Playing:
    """An AudioSource that plays frames, and raises whatever stands among them."""

    def __init__(self, *plays: Sequence[Frame | Exception]) -> None:
        self._plays = list(plays)

    def frames(self, stop: Event) -> Iterator[Frame]:
        for item in self._plays.pop(0):
            if stop.is_set():
                return
            if isinstance(item, Exception):
                raise item
            yield item


def read(path: Path) -> Samples:
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    return np.asarray(samples, dtype=np.int16)


def write(path: Path, samples: npt.ArrayLike, rate_hz: int = SAMPLE_RATE_HZ, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, np.asarray(samples), rate_hz, subtype=subtype)
    return path


def wav_bytes(data: bytes, *, rate_hz: int = SAMPLE_RATE_HZ, promised: int | None = None) -> bytes:
    """A mono 16-bit WAV whose header promises `promised` bytes of samples, there or not."""
    length = len(data) if promised is None else promised
    header = struct.pack("<4sI4s", b"RIFF", min(36 + length, 0xFFFFFFFF), b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return header + struct.pack("<4sI", b"data", length) + data
