"""How a door may hear a recording: rooms, voices, ward sounds, distance, masks, an attacker's chain.

Nothing is drawn by chance alone: what a recording meets follows from its path, so that every run, and every
version of the product, is judged on the same sound.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.evaluate.door.rooms import ROOMS, response, through
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.sound import read_wave
from quantize.playback import Room, pink, play, random_playback, reverberate, rms

LEAD_S = 0.6
"""Seconds of the surroundings alone, before and after what is said."""
TALKERS = 4
MASK_HZ = 2_000.0
"""Where a surgical mask has taken half of the power; 12 dB are gone an octave and a half above."""
OVERSAMPLED = 16
"""Times the rate, before straight lines are drawn between samples: 7 kHz are half a per cent off then."""
LEVEL = 0.06
"""Root mean square of speech after it was mixed: -24 dB of full scale, as at a door's microphone."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of being heard. `people`: whether people are heard so, or an attacker's sound alone."""

    name: str
    around: str = ""
    """What sounds around the speaker: `babble`, `ward` for recorded ward sounds and alarms, `noise` for pink
    noise."""
    snr_db: float = 30.0
    """Speech over the surroundings; over faint noise where nothing sounds around."""
    room: str = ""
    """`near`, within a metre of the door's microphone, or `far`, at two metres in a livelier one."""
    mask: bool = False
    loudspeaker: bool = False
    clock: float = 1.0
    wobble: float = 0.0
    """How much faster and slower in turn, twice a second: 0.005 is half a per cent."""
    codec: str = ""
    """`mp3` at 64 kbit/s or `opus` at 24 kbit/s."""
    people: bool = True


CONDITIONS = (
    Condition("clean"),
    Condition("mask", mask=True),
    Condition("room", room="near"),
    Condition("room, babble 15 dB", "babble", 15.0, "near"),
    Condition("room, babble 10 dB", "babble", 10.0, "near"),
    Condition("room, ward sounds 15 dB", "ward", 15.0, "near"),
    Condition("room, ward sounds 10 dB", "ward", 10.0, "near"),
    Condition("2 m, lively room", room="far"),
    Condition("loudspeaker in a room", room="near", loudspeaker=True, people=False),
    Condition("0.7 % faster", clock=1.007, people=False),
    Condition("MP3 64 kbit/s", codec="mp3", people=False),
    Condition("Opus 24 kbit/s", codec="opus", people=False),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What recordings are mixed with: paths below `root`, so that little is held in memory."""

    root: Path
    voices: tuple[Recording, ...] = ()
    """People none of whom makes an attempt."""
    ward: tuple[str, ...] = ()
    rooms_from: int = 0
    """The number of the first room; ROOMS of them are used."""
    _read: dict[str, Wave] = field(default_factory=dict, compare=False, repr=False)

    def wave(self, path: str) -> Wave:
        """Mono at 16 kHz; read once."""
        if path not in self._read:
            self._read[path] = read_wave(self.root / path)
        return self._read[path]

    def can(self, condition: Condition) -> bool:
        """Whether there is anything to make `condition` of."""
        return {"babble": len(self.voices) >= TALKERS, "ward": bool(self.ward)}.get(condition.around, True)

    def sha256(self) -> str:
        """Names what there is to mix with."""
        names = [*(voice.path for voice in self.voices), *self.ward]
        names += [str(self.rooms_from)] if self.rooms_from else []
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def heard(wave: Wave, path: str, speaker: str, condition: Condition, around: Surroundings) -> Wave:
    """`wave` (n,) of `speaker` as a door hears it under `condition`; `path` decides every draw."""
    if condition == CONDITIONS[0]:
        return wave
    dice = _dice(path, condition.name)
    if condition.clock != 1.0:
        wave = soxr.resample(wave, SAMPLE_RATE_HZ * condition.clock, SAMPLE_RATE_HZ).astype(np.float32)
    if condition.wobble:
        wave = wobbling(wave, condition.wobble)
    if condition.codec:
        wave = coded(wave, condition.codec)
    if condition.loudspeaker:
        wave = play(random_playback(dice).loudspeaker, wave)
    if condition.mask:
        wave = masked(wave)
    if not (condition.room or condition.around):
        return wave
    if condition.room:
        wave = through(wave, response(around.rooms_from + int(dice.integers(ROOMS)), condition.room == "far"))
    wave = wave * np.float32(LEVEL / max(rms(wave), 1e-9))
    lead = round(LEAD_S * SAMPLE_RATE_HZ)
    wave = np.pad(wave, lead)
    noise = _surroundings(condition, len(wave), speaker, around, dice)
    mixed = wave + noise * np.float32(LEVEL * 10.0 ** (-condition.snr_db / 20.0) / max(rms(noise), 1e-9))
    return np.clip(mixed, -1.0, 32767 / 32768).astype(np.float32)


def _surroundings(
    condition: Condition, length: int, speaker: str, around: Surroundings, dice: np.random.Generator
) -> Wave:
    if condition.around == "babble":
        others = [voice for voice in around.voices if voice.speaker != speaker]
        chosen = dice.choice(len(others), TALKERS, replace=False)
        talk = [_stretched(around.wave(others[int(at)].path), length, dice) for at in chosen]
        mixed = np.sum([one / max(rms(one), 1e-9) for one in talk], axis=0).astype(np.float32)
        return reverberate(mixed, Room(0.5, 0.0), dice)[:length]
    if condition.around == "ward":
        return _stretched(around.wave(around.ward[int(dice.integers(len(around.ward)))]), length, dice)
    return pink(length, dice)


def _stretched(wave: Wave, length: int, dice: np.random.Generator) -> Wave:
    """`length` samples of `wave`, from somewhere on, repeated as needed."""
    start = int(dice.integers(len(wave)))
    return np.take(wave, np.arange(start, start + length), mode="wrap")


def masked(wave: Wave) -> Wave:
    """What passes a surgical mask: a low pass, level kept as it comes out."""
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum / np.sqrt(1.0 + (hz / MASK_HZ) ** 2), len(wave)).astype(np.float32)


def wobbling(wave: Wave, depth: float, hz: float = 2.0) -> Wave:
    """`wave` (n,) played faster and slower in turn, `hz` times a second; nothing else is done to it."""
    fine = soxr.resample(wave, SAMPLE_RATE_HZ, OVERSAMPLED * SAMPLE_RATE_HZ)
    seconds = np.arange(len(wave)) / SAMPLE_RATE_HZ
    moved = seconds + depth * np.sin(2 * np.pi * hz * seconds) / (2 * np.pi * hz)
    at = moved * (OVERSAMPLED * SAMPLE_RATE_HZ)
    return np.interp(at, np.arange(len(fine)), fine).astype(np.float32)


def coded(wave: Wave, codec: str) -> Wave:
    """`wave` by way of MP3 at about 64 kbit/s, or Opus at about 24 kbit/s, and back."""
    kinds = {"mp3": ("MP3", "MPEG_LAYER_III", 0.62), "opus": ("OGG", "OPUS", 0.93)}
    container, subtype, compression = kinds[codec]
    file = io.BytesIO()
    mode = {"bitrate_mode": "CONSTANT"} if codec == "mp3" else {}
    soundfile.write(
        file, wave, SAMPLE_RATE_HZ, format=container, subtype=subtype, compression_level=compression, **mode
    )
    file.seek(0)
    back, rate = soundfile.read(file, dtype="float32")
    if rate != SAMPLE_RATE_HZ:
        back = soxr.resample(back, rate, SAMPLE_RATE_HZ)
    return np.asarray(back, np.float32)


def _dice(path: str, name: str) -> np.random.Generator:
    seed = hashlib.sha256(f"{path}\0{name}".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "little"))


def named(names: Sequence[str]) -> Mapping[str, Condition]:
    """The conditions by name, all of them or those asked for."""
    return {one.name: one for one in CONDITIONS if not names or one.name in names}
