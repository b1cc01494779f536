"""A recording played at a door: loudspeaker, room, clock, noise and the door's microphone. NumPy alone.

A simulation for tests and for fitting weights: the loudspeaker is a band limit, resonances and a soft
non-linearity; the room is direct sound and a decaying tail (Polack 1988) whose share grows with distance.
The live check is trained on a richer one (`quantize/train/speech/replay.py`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from device.audio.utterance import SAMPLE_RATE_HZ, Wave


@dataclass(frozen=True, slots=True)
class Loudspeaker:
    """The device that plays the recording."""

    low_hz: float = 200.0
    high_hz: float = 7_000.0
    order: int = 2
    peaks: tuple[tuple[float, float, float], ...] = ()
    """(centre in Hz, gain in dB, width in octaves) of each resonance."""
    drive: float = 0.5
    """Into the soft clipping; 0.5 is hardly audible, 3 is a small phone at full volume."""


@dataclass(frozen=True, slots=True)
class Room:
    """The room in which it plays."""

    decay_s: float = 0.3
    """To -60 dB."""
    direct_db: float = 6.0
    """Direct sound over the tail: 10 at arm's length, 0 at a metre in a hard room."""


@dataclass(frozen=True, slots=True)
class Playback:
    """One way of playing a recording at a door."""

    loudspeaker: Loudspeaker = Loudspeaker()
    room: Room = Room()
    snr_db: float = 25.0
    clock: float = 1.0
    """Speed of the player over that of the recorder: 1.01 plays one per cent faster, and higher."""
    gain: float = 0.7

    def __call__(self, wave: Wave, rng: np.random.Generator) -> Wave:
        """`wave` (n,) at 16 kHz as the door hears it; the tail of the room comes after."""
        played = play(self.loudspeaker, wave)
        if self.clock != 1.0:
            played = soxr.resample(played, SAMPLE_RATE_HZ * self.clock, SAMPLE_RATE_HZ).astype(np.float32)
        heard = reverberate(played, self.room, rng)
        heard *= self.gain * rms(wave) / max(rms(heard), 1e-9)
        noise = pink(len(heard), rng)
        heard = heard + noise * np.float32(rms(heard) * 10.0 ** (-self.snr_db / 20.0))
        return np.clip(heard, -1.0, 32767 / 32768).astype(np.float32)


def random_playback(rng: np.random.Generator) -> Playback:
    """Any device, any room, up to one per cent fast or slow."""
    peaks = tuple(
        (float(rng.uniform(300, 5_000)), float(rng.uniform(-9, 9)), float(rng.uniform(0.2, 1.0)))
        for _ in range(int(rng.integers(1, 5)))
    )
    loudspeaker = Loudspeaker(
        float(rng.uniform(120, 600)),
        float(rng.uniform(3_800, 7_700)),
        int(rng.integers(1, 5)),
        peaks,
        float(rng.uniform(0.3, 3.0)),
    )
    room = Room(float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.0, 12.0)))
    return Playback(
        loudspeaker,
        room,
        float(rng.uniform(12.0, 35.0)),
        float(rng.uniform(0.99, 1.01)),
        float(rng.uniform(0.3, 1.2)),
    )


TEN = (
    Playback(Loudspeaker(150, 7_500), Room(0.2, 10), 30, 1.0, 1.0),
    Playback(Loudspeaker(500, 4_500, 4, ((1_200, 8, 0.3),), 2.5), Room(0.3, 8), 20, 1.002, 0.8),
    Playback(Loudspeaker(300, 3_400, 4), Room(0.3, 6), 25, 0.998, 0.6),
    Playback(Loudspeaker(250, 6_500, 2, ((900, -8, 0.5), (2_500, 7, 0.4))), Room(0.5, 4), 20, 1.005, 0.5),
    Playback(Loudspeaker(120, 7_800), Room(0.6, 3), 25, 0.995, 0.4),
    Playback(Loudspeaker(600, 5_000, 3, ((1_800, 9, 0.2),), 3.0), Room(0.25, 10), 25, 1.008, 0.9),
    Playback(Loudspeaker(200, 7_000), Room(0.8, 3), 25, 1.0, 0.3),
    Playback(Loudspeaker(180, 7_600, 2, ((400, 6, 0.6), (3_200, -7, 0.5))), Room(0.3, 6), 12, 1.003, 0.7),
    Playback(Loudspeaker(350, 5_500, 2, (), 2.0), Room(0.4, 5), 20, 1.01, 0.6),
    Playback(Loudspeaker(220, 6_800, 3, ((700, 5, 0.3),), 1.5), Room(0.35, 6), 20, 0.99, 1.1),
)
"""Ten loudspeakers in ten rooms: a good box nearby, telephones, a laptop, a hall, noise, fast, slow."""


def play(loudspeaker: Loudspeaker, wave: Wave) -> Wave:
    """`wave` (n,) as it leaves a loudspeaker."""
    level = wave / max(float(np.abs(wave).max()), 1e-9)
    bent = np.tanh(loudspeaker.drive * (level + 0.08 * loudspeaker.drive * level**2))
    size = 1 << (len(bent) + SAMPLE_RATE_HZ // 4).bit_length()
    hz = np.maximum(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE_HZ), 1.0)
    power = 2 * loudspeaker.order
    gain = 1.0 / np.sqrt((1 + (loudspeaker.low_hz / hz) ** power) * (1 + (hz / loudspeaker.high_hz) ** power))
    for centre_hz, gain_db, octaves in loudspeaker.peaks:
        gain *= 10.0 ** (gain_db / 20.0 * np.exp(-0.5 * (np.log2(hz / centre_hz) / octaves) ** 2))
    shaped: Wave = np.fft.irfft(np.fft.rfft(bent, size) * gain, size)[: len(wave)].astype(np.float32)
    return shaped


def reverberate(wave: Wave, room: Room, rng: np.random.Generator) -> Wave:
    """`wave` (n,) in a room, with the tail that comes after it; the draw is this room's own echo."""
    length = max(2, round(room.decay_s * SAMPLE_RATE_HZ))
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[: SAMPLE_RATE_HZ // 500] = 0.0  # nothing comes back within 2 ms
    tail *= 10.0 ** (-room.direct_db / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = 1 << (len(wave) + length).bit_length()
    heard: Wave = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)[
        : len(wave) + length
    ].astype(np.float32)
    return heard


CODECS = {"MP3": ("MP3", "MPEG_LAYER_III"), "Vorbis": ("OGG", "VORBIS"), "Opus": ("OGG", "OPUS")}


def coded(wave: Wave, codec: str) -> Wave:
    """`wave` (n,) at 16 kHz as it comes out of one of CODECS, at libsndfile's default quality."""
    container, subtype = CODECS[codec]
    stream = io.BytesIO()
    soundfile.write(stream, wave, SAMPLE_RATE_HZ, format=container, subtype=subtype)
    stream.seek(0)
    decoded: Wave = soundfile.read(stream, dtype="float32")[0]
    return decoded


def microphone(wave: Wave, rng: np.random.Generator, spread_db: float = 2.0) -> Wave:
    """`wave` (n,) as one of many microphones behind one of many faceplates hears it: three broad bumps."""
    hz = np.maximum(np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ), 20.0)
    gain_db = np.zeros(len(hz))
    for _ in range(3):
        centre_hz, octaves = 100.0 * 2.0 ** rng.uniform(0.0, 6.2), rng.uniform(0.5, 1.5)
        gain_db += rng.normal(0.0, spread_db) * np.exp(-0.5 * (np.log2(hz / centre_hz) / octaves) ** 2)
    heard: Wave = np.fft.irfft(np.fft.rfft(wave) * 10.0 ** (gain_db / 20.0), len(wave)).astype(np.float32)
    return heard


def pink(length: int, rng: np.random.Generator) -> Wave:
    """Pink noise (length,) of power one."""
    size = max(2, length)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 8.0))
    noise = np.fft.irfft(spectrum, size)[:length].astype(np.float32)
    pink: Wave = noise / np.float32(max(rms(noise), 1e-9))
    return pink


def rms(wave: Wave) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
