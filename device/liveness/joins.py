"""Was this said in one breath, or pasted together? Evidence for joins, frame by frame and as a whole.

A piece cut from another recording brings its own background, room, level, pitch and neighbours: formants
that move towards a sound that never comes. A small network looks at pictures of the sound every 20 ms, 0.6 s
to either side; `quantize.train.joins.fit` trains it on splices whose joins are known. NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from device.arrays import read_arrays
from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

HOP = 320
FRAME_S = HOP / SAMPLE_RATE_HZ
WINDOW = 512
LOW_FIRST, LOW_LAST = 2, 26
"""Single bins of 31 Hz from 62 to 780 Hz: pitch and its steps."""
BANDS = 32
BANDS_HZ = (120.0, 7_200.0)
FAST_WINDOW, FAST_HOP = 64, 32
FAST_EDGES = (1, 3, 6, 10, 16, 22, 29)
"""In bins of 250 Hz: six bands every 2 ms, for cuts that are sharp."""
FAST_STEPS = HOP // FAST_HOP
FEATURES = (LOW_LAST - LOW_FIRST) + BANDS + FAST_STEPS * (len(FAST_EDGES) - 1)
FLOOR = 1e-8
"""Of the loudest frame's power: deeper silence is no emptier."""
SLOW = LOW_LAST - LOW_FIRST + BANDS
NEAR = (-2, -1, 0, 1)
MEANS = (5, 15)
REACH = 30
STEPS = 3 * (len(FAST_EDGES) - 1) + 2
INPUTS = len(NEAR) * (SLOW + STEPS) + 2 * (len(MEANS) + 1) * SLOW
UNITS, FEWER_UNITS = 64, 32
SUMMARIES = 5
EDGE, PEAK_FRAMES, LEAST = 5, 10, -8.0
LOUD = 1.5
"""In the units of pictures: 22 dB."""
LONGEST_S = 12.0
"""Of longer speech this much is looked at, at a time."""
MAX_BYTES = 2 << 20

Floats = npt.NDArray[np.float32]


def _dft(window: int, bins: int) -> Floats:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    angle = np.arange(window)[:, None] * np.arange(bins) * 2 * np.pi / window
    return np.ascontiguousarray(
        np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * hann[:, None], np.float32
    )


def _triangles() -> Floats:
    """Bands evenly spaced in mel, as a matrix (bins, BANDS)."""
    hz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW
    low, high = (2595 * np.log10(1 + edge / 700) for edge in BANDS_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    inside: Floats = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return inside


_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
_TRIANGLES = _triangles()
_FAST = _dft(FAST_WINDOW, FAST_EDGES[-1])


def features(wave: Floats) -> Floats:
    """Pictures (frames, FEATURES) of speech (n,) at 16 kHz, every 20 ms; gain and fixed filters vanish."""
    centred = wave.astype(np.float32) - wave.mean(dtype=np.float32)
    frames = max(1, len(centred) // HOP)
    padded = np.pad(centred, (WINDOW // 2, WINDOW + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    spectrum = rfft(windows * _HANN)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    loudest = float(power.sum(axis=1).max()) + 1e-20
    slow = np.concatenate([power[:, LOW_FIRST:LOW_LAST], power @ _TRIANGLES], axis=1)
    slow = np.log(slow / loudest + FLOOR)
    short = np.lib.stride_tricks.sliding_window_view(padded[WINDOW // 2 - FAST_WINDOW // 2 :], FAST_WINDOW)
    parts = np.ascontiguousarray(short[::FAST_HOP][: frames * FAST_STEPS]) @ _FAST
    parts *= parts
    bins = parts.shape[1] // 2
    quick = parts[:, :bins] + parts[:, bins:]
    quick = np.add.reduceat(quick, FAST_EDGES[:-1], axis=1)
    fast = np.log(quick / (loudest / 8.0) + FLOOR).reshape(frames, -1)
    found = np.concatenate([slow, fast], axis=1)
    found -= found.mean(axis=0)
    return np.asarray(found * np.float32(0.3), np.float32)


def surroundings(pictures: Floats) -> Floats:
    """What the network weighs at each frame, (frames, INPUTS): the frames around it, and before and after.

    Before and after: means over 100 and 300 ms, and the quietest of 600 ms in each band, which is the room.
    """
    frames = len(pictures)
    pictures = np.concatenate([pictures[:, :SLOW], _steps(pictures[:, SLOW:])], axis=1)
    padded = np.pad(pictures, ((REACH, REACH), (0, 0)), mode="edge")
    near = [padded[REACH + at : REACH + at + frames] for at in NEAR]
    bands = padded[:, :SLOW]
    total = np.concatenate([np.zeros((1, SLOW)), np.cumsum(bands, axis=0, dtype=np.float64)])
    beside = []
    for length in MEANS:
        before = (total[REACH : REACH + frames] - total[REACH - length : REACH - length + frames]) / length
        after = (total[REACH + length : REACH + length + frames] - total[REACH : REACH + frames]) / length
        beside += [before, after - before]
    lowest = np.lib.stride_tricks.sliding_window_view(bands, REACH, axis=0).min(axis=2)
    before, after = lowest[:frames], lowest[REACH : REACH + frames]
    around: Floats = np.concatenate([*near, *beside, before, after - before], axis=1).astype(np.float32)
    return around


def _steps(fast: Floats) -> Floats:
    """How sharply each fast band rises and falls in every frame, and all of them at once: (frames, STEPS)."""
    bands = fast.shape[1] // FAST_STEPS
    levels = fast.reshape(-1, bands)
    changes = np.diff(levels, axis=0, prepend=levels[:1])
    twice = changes + np.concatenate([changes[1:], changes[-1:]])
    frames = len(fast)
    together = np.sort(twice, axis=1)
    found = [
        levels.reshape(frames, FAST_STEPS, bands).mean(axis=1),
        twice.reshape(frames, FAST_STEPS, bands).max(axis=1),
        twice.reshape(frames, FAST_STEPS, bands).min(axis=1),
        together[:, 1].reshape(frames, FAST_STEPS).max(axis=1, keepdims=True),
        together[:, -2].reshape(frames, FAST_STEPS).min(axis=1, keepdims=True),
    ]
    steps: Floats = np.concatenate(found, axis=1).astype(np.float32)
    return steps


@dataclass(frozen=True, slots=True)
class Joins:
    """What was found in one utterance."""

    score: float
    """Higher is more like one go."""
    frames: Floats
    """(frames,), every FRAME_S: the logit of a join there."""


@dataclass(frozen=True, slots=True)
class JoinNetwork:
    """Two layers over the surroundings of a frame, and a line over what stands out in all of them."""

    mean: Floats
    scale: Floats
    """(INPUTS,)"""
    first: Floats
    """(INPUTS, UNITS)"""
    first_bias: Floats
    second: Floats
    """(UNITS, FEWER_UNITS)"""
    second_bias: Floats
    frame: Floats
    """(FEWER_UNITS,)"""
    frame_bias: Floats
    """(1,)"""
    whole: Floats
    """(SUMMARIES,), over `summaries`."""
    whole_bias: Floats

    def __post_init__(self) -> None:
        wanted = {
            "mean": (INPUTS,),
            "scale": (INPUTS,),
            "first": (INPUTS, UNITS),
            "first_bias": (UNITS,),
            "second": (UNITS, FEWER_UNITS),
            "second_bias": (FEWER_UNITS,),
            "frame": (FEWER_UNITS,),
            "frame_bias": (1,),
            "whole": (SUMMARIES,),
            "whole_bias": (1,),
        }
        for name, shape in wanted.items():
            part = getattr(self, name)
            if part.shape != shape or part.dtype != np.float32 or not np.isfinite(part).all():
                raise ValueError(f"{name} of the network for joins is not {shape} finite numbers")
        if self.scale.min() <= 0:
            raise ValueError("the network for joins has a scale of zero")

    @classmethod
    def from_bytes(cls, data: bytes) -> JoinNetwork:
        """From an .npz of these parts; raises ValueError when it is anything else."""
        parts = read_arrays(data, cls.__slots__, "the network for joins", MAX_BYTES)
        return cls(**{name: part.astype(np.float32) for name, part in parts.items()})

    def __call__(self, wave: Floats) -> Joins:
        """Of speech (n,) at 16 kHz; the least whole of its stretches when it is longer than LONGEST_S."""
        count = max(1, -(-len(wave) // round(LONGEST_S * SAMPLE_RATE_HZ)))
        each = -(-len(wave) // (count * HOP)) * HOP  # whole frames, so that every frame keeps its time
        pieces = [wave[at : at + each] for at in range(0, max(1, len(wave)), each or HOP)]
        found = [self.of_pictures(features(piece)) for piece in pieces]
        return Joins(min(one.score for one in found), np.concatenate([one.frames for one in found]))

    def of_pictures(self, pictures: Floats) -> Joins:
        """Of what `features` gives."""
        scaled = ((surroundings(pictures) - self.mean) / self.scale).clip(-5.0, 5.0)
        hidden = np.maximum(scaled @ self.first + self.first_bias, 0.0)
        hidden = np.maximum(hidden @ self.second + self.second_bias, 0.0)
        logits = (hidden @ self.frame + self.frame_bias).astype(np.float32)
        speech = speech_span(pictures)
        logits[: speech.start] = LEAST
        logits[speech.stop :] = LEAST
        return Joins(float(summaries(logits) @ self.whole + self.whole_bias[0]), logits)


def speech_span(pictures: Floats) -> slice:
    """From shortly after speech begins to shortly before it ends: there everything changes, in anybody."""
    level = pictures[:, SLOW - BANDS : SLOW].mean(axis=1)
    loud = np.flatnonzero(level > np.percentile(level, 95) - LOUD)
    first, last = int(loud[0]) + EDGE, int(loud[-1]) - EDGE
    return slice(first, max(first + 1, last))


def summaries(logits: Floats) -> Floats:
    """(SUMMARIES,) of frames' logits, each higher for speech in one go: what stands out, once and repeatedly.

    Peaks are the highest of every 0.2 s.
    """
    padded = np.pad(logits, (0, -len(logits) % PEAK_FRAMES), constant_values=LEAST)
    peaks = np.sort(padded.reshape(-1, PEAK_FRAMES).max(axis=1))[::-1].clip(LEAST, -LEAST)
    top = np.pad(peaks, (0, 5), constant_values=LEAST)
    soft = np.log1p(np.exp(peaks))
    return -np.array([top[0], top[1:3].mean(), top[3:5].mean(), soft.mean(), soft.sum() / 5.0], np.float32)


@cache
def shipped_network() -> JoinNetwork:
    """The network of this version."""
    return JoinNetwork.from_bytes((files("device.liveness") / "joins.npz").read_bytes())
