"""Makes short marks of an utterance: the same for every playback of one recording, others each time it is
said.

Nobody says a phrase twice with the same melody to one per cent and the same rhythm to some milliseconds; a
loudspeaker, a room and noise leave both as they were. So the marks are taken from the ripple that the voice's
harmonics draw along the frequency axis, after everything broad in frequency (loudspeaker, room, vowels) and
everything steady in time (hum, alarms, resonances) is removed.

A stretch of 1.2 s becomes 256 signs of projections that only this unit knows (Charikar 2002: signs of random
projections keep angles). On a frequency axis in equal ratios a clock that is 1 % off shifts it by less than
half a bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ
from device.liveness.errors import LivenessError

Floats = npt.NDArray[np.float32]

BITS = 256
HOP_SAMPLES = 320
"""20 ms."""
PATCH_FRAMES = 60
"""1.2 s: two or three words."""
STORED_EVERY_FRAMES = 12
"""One stored mark every 240 ms ..."""
ASKED_EVERY_FRAMES = 2
"""... compared with the utterance at every 40 ms."""
MAX_STORED = 64
"""Marks of the longest utterance that is kept (15 s)."""
SECRET_BYTES = 32

_WINDOW_SAMPLES = 1024
_FFT_SAMPLES = 2048
_BINS = 112
_RANGE_HZ = (220.0, 3_000.0)
"""Below, small loudspeakers leave nothing; above, harmonics blur within one window."""
_OVERLAP = 1.5
"""Of neighbouring bins, so that a clock that is 1 % off changes little."""
_RIPPLE_BINS = 15
"""What is broader than this on the frequency axis is no harmonic."""
_FLOOR = 10.0**-1.2
"""12 dB below each bin's own strong moments: noise and echoes must not fill the gaps in other ways."""
_ECHO_LAG_FRAMES = 3
_ECHO_FRAMES = 6.0
"""A room's late echo is taken as a decaying sum of what was 60 ms ago and longer, and subtracted ..."""
_ECHO_LEFT = 1e-3
"""... down to this share (Lebart, Boucher and Denbigh 2001)."""
_WINDOW = np.hanning(_WINDOW_SAMPLES).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """The marks of one utterance: `stored` to keep, `asked` to compare with what was kept."""

    stored: npt.NDArray[np.uint8]
    """(n, BITS / 8): packed signs, one row every 240 ms. This, sealed, is all that is kept."""
    asked: Floats
    """(m, BITS): rows of length one, one every 40 ms."""

    def __post_init__(self) -> None:
        if self.stored.dtype != np.uint8 or self.stored.ndim != 2 or self.stored.shape[1] != BITS // 8:
            raise ValueError(f"stored marks are uint8 of shape (n, {BITS // 8})")
        if not 0 < len(self.stored) <= MAX_STORED:
            raise ValueError(f"an utterance has 1 to {MAX_STORED} marks")
        if self.asked.ndim != 2 or self.asked.shape[1] != BITS or not np.isfinite(self.asked).all():
            raise ValueError(f"asked marks are finite, of shape (m, {BITS})")

    def __repr__(self) -> str:
        return f"<Fingerprint of {len(self.stored)} marks>"


class Fingerprinter:
    """Marks under one unit's secret: under another secret the same sound gives unrelated marks."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"the secret has {SECRET_BYTES} bytes")
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(secret[:16])))
        self._projection = rng.standard_normal((PATCH_FRAMES * _BINS, BITS), dtype=np.float32)

    def __call__(self, wave: Floats) -> Fingerprint:
        """The marks of speech (n,) at 16 kHz. Raises LivenessError for what is no sound."""
        if wave.ndim != 1 or len(wave) < _WINDOW_SAMPLES or not np.isfinite(wave).all():
            raise LivenessError("there is no sound to remember")
        ripple = _ripple(wave[-MAX_STORED * STORED_EVERY_FRAMES * HOP_SAMPLES :])
        if len(ripple) < PATCH_FRAMES:
            ripple = np.pad(ripple, ((0, PATCH_FRAMES - len(ripple)), (0, 0)))
        patches = np.lib.stride_tricks.sliding_window_view(ripple, PATCH_FRAMES, axis=0)
        rows = patches[::ASKED_EVERY_FRAMES].transpose(0, 2, 1).reshape(-1, PATCH_FRAMES * _BINS)
        every = rows.copy()  # overlapping rows would keep BLAS from the product: 300 ms instead of 5
        found = every @ self._projection
        length = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(length).all():
            raise LivenessError("there is no sound to remember")
        stored = found[:: STORED_EVERY_FRAMES // ASKED_EVERY_FRAMES]
        return Fingerprint(np.packbits(stored > 0.0, axis=1), found / np.maximum(length, 1e-9))


def _ripple(wave: Floats) -> Floats:
    """What harmonics draw: (frames, bins), broad and steady parts removed. Level and filters vanish."""
    padded = np.pad(wave, _WINDOW_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = rfft(frames * _WINDOW, _FFT_SAMPLES, axis=1)[:, _FIRST:_LAST]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _BANDS
    power = np.maximum(power - _late_echo(power), _ECHO_LEFT * power)
    strong = np.percentile(power, 95, axis=0) + 1e-12
    level = np.log(power / strong + _FLOOR)
    level -= _box(level)
    level -= level.mean(axis=0)
    ripple: Floats = level.astype(np.float32)
    return ripple


def _late_echo(power: Floats) -> Floats:
    """A decaying mean of what was heard `_ECHO_LAG_FRAMES` ago and earlier, (frames, bins)."""
    keep = np.exp(-1.0 / _ECHO_FRAMES)
    growth = keep ** -np.arange(len(power), dtype=np.float64)[:, None]  # at most 1e55: MAX_STORED is 15 s
    mean = np.cumsum((1.0 - keep) * power * growth, axis=0) / growth
    echo = np.zeros_like(power)
    echo[_ECHO_LAG_FRAMES:] = mean[:-_ECHO_LAG_FRAMES]
    return echo


def _box(level: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The moving average along the frequency axis."""
    half = _RIPPLE_BINS // 2
    total = np.cumsum(np.pad(level, ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    average: npt.NDArray[Any] = (total[:, _RIPPLE_BINS:] - total[:, :-_RIPPLE_BINS]) / _RIPPLE_BINS
    return average


def _bands() -> tuple[Floats, int, int]:
    """Triangles in equal ratios, and which FFT bins they touch."""
    centres_hz = np.geomspace(*_RANGE_HZ, _BINS)
    bins_hz = np.fft.rfftfreq(_FFT_SAMPLES, 1.0 / SAMPLE_RATE_HZ)
    ratio = centres_hz[1] / centres_hz[0]
    half_hz = np.maximum(bins_hz[1], centres_hz * (ratio - 1.0) * _OVERLAP)
    weights = np.clip(1.0 - np.abs(bins_hz[:, None] - centres_hz) / half_hz, 0.0, None)
    weights /= weights.sum(axis=0)
    used = np.flatnonzero(weights.any(axis=1))
    first, last = int(used[0]), int(used[-1]) + 1
    return weights[first:last].astype(np.float32), first, last


_BANDS, _FIRST, _LAST = _bands()
