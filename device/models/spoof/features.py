"""The spoof detector's front end. Training imports this very code, so both sides see the same numbers.

Four pictures of the short-time spectrum and one of the whole utterance's: where the energy is, where in the
window it falls (group delay), what frequency each bin really holds (reassignment; Auger and Flandrin 1995),
where the energy is with shallow pauses, and the fine lines of the long-term average.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft

WINDOW_SAMPLES = 512
HOP_SAMPLES = 256
FIRST_BIN = 3
BINS = 224
"""94 Hz to 7.06 kHz: the top of the band says what a file's sample rate used to be, not who spoke."""
PICTURES = 5
SHALLOW = 4
"""Of the pictures, the one that answers for synthesis."""
FLOOR = 10.0**-4.5
"""Each bin's dynamic range below its own mean power."""
SHALLOW_FLOOR = 10.0**-3.0
"""The same in the shallow picture: how deep pauses go tells studios, not synthesisers."""
TRIM_DB = 38.0
TRIM_PAD_FRAMES = 3
MIN_FRAMES = 62
"""One second. Shorter speech is repeated up to here, so that pooling has something to average."""
LEVEL_SCALE, LINE_SCALE = 0.25, 0.5
LINE_SMOOTHING_BINS = 17
LIMIT = 127 / 32

Floats = npt.NDArray[np.float32]

_PHASE = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
_WINDOW = (0.5 - 0.5 * np.cos(_PHASE)).astype(np.float32)
_TIMED = (_WINDOW * (np.arange(WINDOW_SAMPLES) - WINDOW_SAMPLES / 2) / (WINDOW_SAMPLES / 8)).astype(
    np.float32
)
"""Gives group delay in eighths of a window."""
_SLOPE = (0.5 * np.sin(_PHASE)).astype(np.float32)
"""Gives the frequency's deviation in bins."""


def _spectrum(frames: Floats, window: Floats) -> npt.NDArray[np.complex64]:
    bins = rfft(frames * window, axis=1)[:, FIRST_BIN : FIRST_BIN + BINS]
    return bins.astype(np.complex64)


def speech_span(power: Floats) -> slice:
    """Frames between the first and the last that are not far below the loudest, of `power` (frames, BINS).

    The length of leading and trailing silence tells of studios, not of life.
    """
    level = power.sum(axis=1)
    loud = np.flatnonzero(level > level.max() * 10.0 ** (-TRIM_DB / 10.0))
    if len(loud) == 0:
        return slice(0, len(power))
    return slice(max(0, int(loud[0]) - TRIM_PAD_FRAMES), int(loud[-1]) + 1 + TRIM_PAD_FRAMES)


def pictures(wave: Floats) -> tuple[Floats, Floats]:
    """Four pictures (frames, 4, BINS) and the lines (BINS,) of speech (n,) at 16 kHz, n >= 512.

    Level with each bin's own mean removed, so that gain and fixed filters vanish; group delay; frequency
    deviation; the shallow level. All are bounded by `LIMIT`. At least MIN_FRAMES frames.
    """
    centred = wave - wave.mean(dtype=np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(centred, WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = _spectrum(frames, _WINDOW)
    span = speech_span((spectrum.real**2 + spectrum.imag**2).astype(np.float32))
    spectrum, frames = spectrum[span], frames[span]
    timed, slope = _spectrum(frames, _TIMED), _spectrum(frames, _SLOPE)
    if len(spectrum) < MIN_FRAMES:
        again = np.arange(MIN_FRAMES) % len(spectrum)
        spectrum, timed, slope = spectrum[again], timed[again], slope[again]
    power = spectrum.real**2 + spectrum.imag**2
    mean_power = power.mean(axis=0) + 1e-20
    share = power / mean_power
    level, shallow = _level(share, FLOOR), _level(share, SHALLOW_FLOOR)
    floored = power + mean_power * FLOOR + 1e-20
    delay = (timed.real * spectrum.real + timed.imag * spectrum.imag) / floored
    deviation = (slope.real * spectrum.imag - slope.imag * spectrum.real) / floored
    found = np.stack([level, delay, deviation, shallow], axis=1).clip(-LIMIT, LIMIT).astype(np.float32)
    return found, _lines(np.log(power + mean_power * FLOOR).mean(axis=0, dtype=np.float32))


def _level(share: Floats, floor: float) -> Floats:
    """Log of each bin's share of its own mean power (frames, BINS), not below `floor`, its mean removed."""
    relative = np.log(share + np.float32(floor))
    level: Floats = (relative - relative.mean(axis=0, dtype=np.float32)) * np.float32(LEVEL_SCALE)
    return level


def _lines(average: Floats) -> Floats:
    """What stands out of the smoothed long-term spectrum (BINS,): hum, combs of rooms, upsamplers."""
    pad = LINE_SMOOTHING_BINS // 2
    smooth = np.convolve(
        np.pad(average, pad, mode="edge"), np.full(LINE_SMOOTHING_BINS, 1 / LINE_SMOOTHING_BINS), "valid"
    )
    lines: Floats = ((average - smooth) * LINE_SCALE).clip(-2.0, 2.0).astype(np.float32)
    return lines


def together(found: Floats, lines: Floats) -> Floats:
    """What the network takes, (PICTURES, BINS, frames): level, with lines, delay, deviation, shallow."""
    level = found[:, :1]
    whole = np.concatenate([level, level + lines, found[:, 1:]], axis=1)
    return np.ascontiguousarray(whole.transpose(1, 2, 0), np.float32)


def spoof_features(wave: Floats) -> Floats:
    """Features of speech (n,) at 16 kHz, n >= 512: shape (PICTURES, BINS, frames), 16 ms a frame, float32."""
    return together(*pictures(wave))
