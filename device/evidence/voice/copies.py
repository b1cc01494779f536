"""The door vector: how an enrolled person sounds in rooms and beside talk, made while the sound is in memory.

Every copy is the recording itself in one of a few fixed rooms, in noise that swells as talk does. Nothing is
drawn by chance: the same recordings give the same vector on every unit (docs/adr/0066).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.spoiled.standing_out import standing_out
from device.audio.utterance import SAMPLE_RATE_HZ
from device.evidence.voice.in_noise import FITTED_ON

Wave = npt.NDArray[np.float32]
Embedding = npt.NDArray[np.float32]

MADE = "rooms 1"
"""How these copies are made. Any change of them has another name, and a calibration of its own."""
MOST_SAMPLES = 8 * SAMPLE_RATE_HZ
"""Of one recording: what a long one costs is bounded."""
PAUSE_SHARE = 0.25
"""Of the beginning's energy. A middle with less is a pause: nothing of the person would be copied."""
STREAMS = 4
SWELLS_SAMPLES = SAMPLE_RATE_HZ // 8


@dataclass(frozen=True, slots=True)
class Room:
    """Where a copy is heard."""

    decay_s: float
    """To -60 dB."""
    direct_db: float
    """Direct sound over the tail."""
    talk_db: float
    """Speech over what sounds like talk."""


ROOMS = (Room(0.3, 6.0, 10.0), Room(0.65, 1.0, 17.0), Room(0.45, -1.0, 16.0), Room(0.65, -3.0, 12.0))


class Embedder(Protocol):
    version: str

    def embed(self, wave: Wave) -> Embedding: ...


def makes(model: str) -> bool:
    """Whether a voiceprint by this speaker model gets a door vector: only that of the calibration does."""
    return model == FITTED_ON


def of_recording(speaker: Embedder, wave: Wave) -> Embedding:
    """The mean of `wave`'s copies (192,), float32; not of length one. Raises what `speaker` raises."""
    said = _most_said(wave)
    found = []
    for number in range(len(ROOMS)):
        copy = _heard(said, number)
        loud = standing_out(copy)
        found.append(speaker.embed(loud))
        copy[:] = loud[:] = 0.0
    mean = np.mean(found, axis=0, dtype=np.float32)
    for one in found:
        one[:] = 0.0
    return np.asarray(mean, np.float32)


def door_vector(embeddings: Sequence[Embedding], copies: Sequence[Embedding]) -> Embedding:
    """Of the recordings as they are and their copies, alike: a unit vector (192,)."""
    mean = np.mean(embeddings, axis=0, dtype=np.float64) + np.mean(copies, axis=0, dtype=np.float64)
    made = (mean / np.linalg.norm(mean)).astype(np.float32)
    mean[:] = 0.0
    return np.asarray(made, np.float32)


def _most_said(wave: Wave) -> Wave:
    """MOST_SAMPLES of the middle of a long recording, of its beginning where the middle is a pause."""
    start = max(0, len(wave) - MOST_SAMPLES) // 2
    middle, beginning = wave[start : start + MOST_SAMPLES], wave[:MOST_SAMPLES]
    paused = np.sum(np.square(middle)) < PAUSE_SHARE * np.sum(np.square(beginning))
    return beginning if paused else middle


def _heard(wave: Wave, number: int) -> Wave:
    """`wave` (n,) in the room of that number, its tail after it."""
    room, response = ROOMS[number], _response(number)
    length = len(wave) + len(response)
    size = 1 << length.bit_length()
    spectrum = rfft(wave, size)
    spectrum *= rfft(response, size)
    heard = np.fft.irfft(spectrum, size)[:length]
    spectrum[:] = 0.0
    noise = _like_talk(length, number)
    level = np.sqrt(np.mean(np.square(heard)) / max(float(np.mean(np.square(noise))), 1e-18))
    heard += noise * (level * 10.0 ** (-room.talk_db / 20.0))
    copy = heard.astype(np.float32)
    heard[:] = 0.0
    return np.asarray(copy, np.float32)


@cache
def _response(number: int) -> npt.NDArray[np.float64]:
    """Direct sound and a decaying tail (Polack 1988)."""
    room = ROOMS[number]
    length = round(room.decay_s * SAMPLE_RATE_HZ)
    tail = np.random.default_rng(number).standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[: SAMPLE_RATE_HZ // 500] = 0.0  # nothing comes back within 2 ms
    tail *= 10.0 ** (-room.direct_db / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(tail)


def _like_talk(length: int, number: int) -> npt.NDArray[np.float64]:
    """Streams of pink noise (length,) that swell and fall eight times a second."""
    dice = np.random.default_rng(1_000 + number)
    at = np.arange(0, length + SWELLS_SAMPLES, SWELLS_SAMPLES)
    total, size = np.zeros(length), 1 << length.bit_length()
    for _ in range(STREAMS):
        spectrum = rfft(dice.standard_normal(size))
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 8.0))
        level = np.maximum(0.0, dice.normal(0.5, 0.6, len(at)))
        total += np.fft.irfft(spectrum, size)[:length] * np.interp(np.arange(length), at, level)
    return total
