"""Scores whether an answer was said in one go or pasted together: evidence for joins.

A piece cut from another recording brings its own background, room, level, pitch and formants. Several small
convolutional networks (`research.joins` trains them on splices whose joins are known) look at the sound 1.5 s
to either side and at all of the answer, and their scores are averaged; `repeats` finds what was pasted twice.
NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

from device.arrays import read_arrays
from device.audio.utterance import SAMPLE_RATE_HZ
from device.liveness import join_pictures
from device.liveness.join_pictures import BANDS, FEATURES, LOWS, features, repeats
from device.own_files import own_file

HOP = 2 * join_pictures.HOP
FRAME_S = HOP / SAMPLE_RATE_HZ
UNITS, POOLED_UNITS = 64, 32
FIRST_TAPS, TAPS = 4, 5
DILATIONS = (1, 1, 2, 4, 8, 16, 1, 4)
OVERVIEW_BEFORE = 4
"""The layer that gets a summary of all of the answer."""
BLOCKS = len(DILATIONS)
SUMMARIES = 4
REPEAT_FROM = 0.9
"""Likeness of two stretches that people do not reach."""
EDGE, PEAK_FRAMES, LEAST = 5, 10, -8.0
LOUD = 1.5
"""In the units of pictures: 22 dB."""
LARGEST = 4.0
"""Of a scaled picture."""
LONGEST_S = 12.0
"""Of longer speech this much is looked at, at a time."""
MOST_NETWORKS = 8
MAX_BYTES = 2 << 20

Floats = npt.NDArray[np.float32]

SHAPES: dict[str, tuple[int, ...]] = {
    "mean": (FEATURES,),
    "scale": (FEATURES,),
    "first": (FIRST_TAPS * FEATURES, UNITS),
    "first_bias": (UNITS,),
    "taps": (BLOCKS, TAPS, UNITS),
    "mixes": (BLOCKS, UNITS, UNITS),
    "mix_biases": (BLOCKS, UNITS),
    "overview": (2 * UNITS, UNITS),
    "overview_bias": (UNITS,),
    "frame": (UNITS,),
    "frame_bias": (1,),
    "attention": (UNITS,),
    "pooled": (2 * UNITS, POOLED_UNITS),
    "pooled_bias": (POOLED_UNITS,),
    "last": (POOLED_UNITS,),
    "last_bias": (1,),
    "peaks": (SUMMARIES,),
    "repeated": (1,),
}


@dataclass(frozen=True, slots=True)
class Joins:
    """What was found in one utterance."""

    score: float
    """Higher is more like one go."""
    frames: Floats
    """(frames,), every FRAME_S: the logit of a join there."""


@dataclass(frozen=True, slots=True)
class JoinNetwork:
    """Convolutions over 20 ms frames, a logit at each, and one of the whole; normalisation is folded in.
    Every part has the shape that SHAPES says."""

    mean: Floats
    scale: Floats
    first: Floats
    first_bias: Floats
    taps: Floats
    mixes: Floats
    mix_biases: Floats
    overview: Floats
    overview_bias: Floats
    frame: Floats
    frame_bias: Floats
    attention: Floats
    pooled: Floats
    pooled_bias: Floats
    last: Floats
    last_bias: Floats
    peaks: Floats
    repeated: Floats

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            part = getattr(self, name)
            if part.shape != shape or part.dtype != np.float32 or not np.isfinite(part).all():
                raise ValueError(f"{name} of the network for joins is not {shape} finite numbers")
        if self.scale.min() <= 0:
            raise ValueError("the network for joins has a scale of zero")

    @classmethod
    def from_bytes(cls, data: bytes) -> JoinNetwork:
        """From an .npz of these parts; raises ValueError when it is anything else."""
        parts = read_arrays(data, SHAPES, "the network for joins", MAX_BYTES)
        return cls(**{name: part.astype(np.float32) for name, part in parts.items()})

    def __call__(self, wave: Floats) -> Joins:
        """Of speech (n,) at 16 kHz; the least whole of its stretches when it is longer than LONGEST_S."""
        return _heard(wave, self.of_pictures)

    def of_pictures(self, pictures: Floats, alike: float | None = None) -> Joins:
        """Of what `features` gives; `alike` is what `repeats` gives of it, where that is known."""
        alike = repeats(pictures) if alike is None else alike
        speech = speech_span(pictures)
        seen = self._seen(((pictures - self.mean) / self.scale).clip(-LARGEST, LARGEST))
        logits = (seen @ self.frame + self.frame_bias).astype(np.float32)
        logits[: speech.start] = LEAST
        logits[speech.stop :] = LEAST
        spoken = seen[speech]
        weights = np.exp(spoken @ self.attention - (spoken @ self.attention).max())
        weights /= weights.sum()
        middle = weights @ spoken
        spread = np.sqrt(weights @ (spoken - middle) ** 2 + 1e-4)
        pooled = np.maximum(np.concatenate([middle, spread]) @ self.pooled + self.pooled_bias, 0.0)
        pasted = pooled @ self.last + self.last_bias[0] + summaries(logits) @ self.peaks
        pasted += self.repeated[0] * max(0.0, alike - REPEAT_FROM)
        return Joins(float(-pasted), logits)

    def _seen(self, scaled: Floats) -> Floats:
        """(frames, UNITS), one for two pictures."""
        padded = np.pad(scaled, ((1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, FIRST_TAPS, axis=0)[::2]
        seen = np.maximum(windows.reshape(len(windows), -1) @ self.first + self.first_bias, 0.0)
        frames = len(seen)
        for block, apart in enumerate(DILATIONS):
            if block == OVERVIEW_BEFORE:
                about = np.concatenate([seen.mean(axis=0), np.sqrt(seen.var(axis=0) + 1e-4)])
                seen = seen + about @ self.overview + self.overview_bias
            reach = TAPS // 2 * apart
            around = np.pad(seen, ((reach, reach), (0, 0)))
            mixed = sum(
                around[tap * apart : tap * apart + frames] * self.taps[block, tap] for tap in range(TAPS)
            )
            seen = seen + np.maximum(mixed @ self.mixes[block] + self.mix_biases[block], 0.0)
        found: Floats = seen.astype(np.float32)
        return found


@dataclass(frozen=True, slots=True)
class JoinNetworks:
    """Networks that hear the same pictures and err differently; what they say is averaged."""

    members: tuple[JoinNetwork, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MOST_NETWORKS:
            raise ValueError(f"the networks for joins are not 1 to {MOST_NETWORKS}")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From an .npz of the parts that SHAPES names, one network after another along the first axis;
        raises ValueError when it is anything else."""
        parts = read_arrays(data, SHAPES, "the network for joins", MAX_BYTES)
        counts = {part.shape[:1] for part in parts.values()}
        if len(counts) != 1 or not (count := counts.pop()):
            raise ValueError("the network for joins is not as many of every part")
        every = range(min(count[0], MOST_NETWORKS + 1))
        return cls(
            tuple(
                JoinNetwork(**{name: part[at].astype(np.float32) for name, part in parts.items()})
                for at in every
            )
        )

    def __call__(self, wave: Floats) -> Joins:
        """As `JoinNetwork`, of speech (n,) at 16 kHz."""
        return _heard(wave, self.of_pictures)

    def of_pictures(self, pictures: Floats) -> Joins:
        """Of what `features` gives: the means of scores and of logits."""
        alike = repeats(pictures)
        found = [member.of_pictures(pictures, alike) for member in self.members]
        frames = np.mean([one.frames for one in found], axis=0, dtype=np.float32)
        return Joins(float(np.mean([one.score for one in found])), frames)


def _heard(wave: Floats, of_pictures: Callable[[Floats], Joins]) -> Joins:
    count = max(1, -(-len(wave) // round(LONGEST_S * SAMPLE_RATE_HZ)))
    each = -(-len(wave) // (count * HOP)) * HOP  # whole frames, so that every frame keeps its time
    pieces = [wave[at : at + each] for at in range(0, max(1, len(wave)), each or HOP)]
    found = [of_pictures(features(piece)) for piece in pieces]
    return Joins(min(one.score for one in found), np.concatenate([one.frames for one in found]))


def speech_span(pictures: Floats) -> slice:
    """From shortly after speech begins to shortly before it ends, in frames of FRAME_S. At both ends
    everything changes, in anybody."""
    level = pictures[:, LOWS : LOWS + BANDS].mean(axis=1).reshape(-1, 2).mean(axis=1)
    loud = np.flatnonzero(level > np.percentile(level, 95) - LOUD)
    first, last = int(loud[0]) + EDGE, int(loud[-1]) - EDGE
    first = min(first, len(level) - 1)
    return slice(first, max(first + 1, last))


def summaries(logits: Floats) -> Floats:
    """(SUMMARIES,) of frames' logits: what stands out, once and repeatedly. Peaks are the highest of every
    0.2 s."""
    padded = np.pad(logits, (0, -len(logits) % PEAK_FRAMES), constant_values=LEAST)
    peaks = np.sort(padded.reshape(-1, PEAK_FRAMES).max(axis=1))[::-1].clip(LEAST, -LEAST)
    top = np.pad(peaks, (0, 5), constant_values=LEAST)
    often = 3.0 * np.log1p(np.exp(peaks)).mean()
    return np.array([top[0], top[1:3].mean(), top[3:5].mean(), often], np.float32)


@cache
def shipped_network() -> JoinNetworks:
    """The networks of this version."""
    return own_file("device.liveness", "joins.npz", JoinNetworks.from_bytes)
