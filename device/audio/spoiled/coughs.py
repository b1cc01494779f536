"""Finds coughs and sneezes in an utterance, and puts the room's own quiet in their place. Pure.

A cough is louder than the words beside it and has no voice: so is hardly any sound of speech, whose noises
are weaker than its vowels. Evidence for joins mistakes a fit of coughing for a pasted piece. What is found
here says nothing against anybody and opens nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import Floats, rfft
from device.audio.spoiled.pitch import pitch_strength
from device.audio.utterance import FRAME_SAMPLES, Wave

VOICED, VOICELESS = 0.7, 0.5
LOUD_DB = 0.0
"""Over the median of voiced frames."""
LEAST_FRAMES, NEAR_FRAMES = 3, 15
"""60 ms of it at least; coughs within 0.3 s are one fit."""
BEFORE_FRAMES, AFTER_FRAMES = 2, 12
FADED_DB = 18.0
"""Below voiced frames: here a cough is over."""
LONGEST_SHARE = 0.7
FADE = 160
QUIET_FRAMES = 8

Spans = list[tuple[int, int]]


def coughs(wave: Wave) -> Spans:
    """(first, last + 1) sample of each fit of coughing in `wave` (n,) at 16 kHz."""
    frames = wave[: len(wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    if len(frames) < 2 * LEAST_FRAMES:
        return []
    level_db = 10.0 * np.log10(np.square(frames.astype(np.float64)).mean(axis=1) + 1e-10)
    loud = level_db > level_db.max() - 40.0
    strength = np.zeros(len(frames))
    strength[loud] = pitch_strength(frames, np.flatnonzero(loud))
    voiced = strength > VOICED
    if voiced.sum() < LEAST_FRAMES:
        return []
    voice_db = float(np.median(level_db[voiced]))
    found = np.flatnonzero((strength < VOICELESS) & loud & (level_db > voice_db + LOUD_DB))
    if len(found) < LEAST_FRAMES:
        return []
    fits = np.split(found, np.flatnonzero(np.diff(found) > NEAR_FRAMES) + 1)
    spans = [
        _whole(level_db, int(fit[0]), int(fit[-1]), voice_db - FADED_DB)
        for fit in fits
        if len(fit) >= LEAST_FRAMES
    ]
    if sum(last - first for first, last in spans) > LONGEST_SHARE * len(frames):
        return []
    return [(first * FRAME_SAMPLES, last * FRAME_SAMPLES) for first, last in spans]


def _whole(level_db: Floats, first: int, last: int, quiet_db: float) -> tuple[int, int]:
    """The frames of a cough with its rise and its end."""
    first = max(0, first - BEFORE_FRAMES)
    end = last + 1
    while end < len(level_db) and end <= last + AFTER_FRAMES and level_db[end] > quiet_db:
        end += 1
    return first, end


def without(wave: Wave, spans: Spans) -> Wave:
    """A copy of `wave` (n,) with noise in place of `spans` that is like its quietest moment."""
    left = wave.copy()
    quiet = _quietest(wave, spans)
    for first, last in spans:
        length = last - first
        made = _noise(quiet, length)
        fade = min(FADE, length // 2)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        weight = np.ones(length, np.float32)
        weight[:fade], weight[length - fade :] = ramp, ramp[::-1]
        left[first:last] = left[first:last] * (1.0 - weight) + made * weight
    return left


def _quietest(wave: Wave, spans: Spans) -> Wave:
    """The QUIET_FRAMES frames of least energy outside `spans`."""
    size = QUIET_FRAMES * FRAME_SAMPLES
    outside = wave.astype(np.float64) ** 2
    for first, last in spans:
        outside[first:last] = np.inf
    starts = np.arange(0, max(1, len(wave) - size), FRAME_SAMPLES)
    energy = [outside[at : at + size].sum() for at in starts]
    outside[:] = 0.0
    at = int(starts[int(np.argmin(energy))])
    return wave[at : at + size]


def _noise(quiet: Wave, length: int) -> npt.NDArray[np.float32]:
    """(length,) noise with the spectrum and level of `quiet`; always the same."""
    size = 1 << max(length, len(quiet)).bit_length()
    shape = np.abs(rfft(quiet * np.hanning(len(quiet)), size))
    shape = np.sqrt(np.convolve(np.square(shape), np.full(33, 1 / 33), "same"))
    turns = np.random.default_rng(len(quiet)).uniform(0.0, 2.0 * np.pi, len(shape))
    noise = np.fft.irfft(shape * np.exp(1j * turns), size)[:length]
    level = float(np.sqrt(np.square(quiet.astype(np.float64)).mean()))
    return np.asarray(noise * (level / max(float(np.sqrt(np.square(noise).mean())), 1e-12)), np.float32)
