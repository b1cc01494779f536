"""Changes on the way to a door, drawn alike for people and for attacks. Waves are (n,), at 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.replay import convolve, loudspeaker
from sync.plain_file import plain_path


def noises(data: Path) -> tuple[list[Wave], list[Wave]]:
    """The noise recordings longer than two seconds: (for training, for testing)."""
    files = sorted((data / "noise").glob("*.flac"))
    waves = [soundfile.read(plain_path(p), dtype="float32", always_2d=True)[0][:, 0] for p in files]
    waves = [w for w in waves if len(w) > 2 * SAMPLE_RATE_HZ]
    return [w for i, w in enumerate(waves) if i % 4], [w for i, w in enumerate(waves) if i % 4 == 0]


def add_noise(wave: Wave, rng: np.random.Generator, recordings: Sequence[Wave], snr_db: float) -> Wave:
    """A recorded or a coloured noise over `wave`, drawn with even odds, `snr_db` below it."""
    if rng.random() < 0.5 and recordings:
        source = recordings[int(rng.integers(len(recordings)))]
        start = int(rng.integers(len(source)))
        noise: Wave = np.take(source, np.arange(start, start + len(wave)), mode="wrap")
    else:
        noise = np.fft.irfft(_coloured(rng, len(wave)), len(wave))
    power = float((noise**2).mean()) + 1e-12
    noisy: Wave = wave + noise * np.sqrt(float((wave**2).mean()) / power * 10 ** (-snr_db / 10))
    return noisy


def _coloured(rng: np.random.Generator, length: int) -> npt.NDArray[np.complex128]:
    bins = length // 2 + 1
    white = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    coloured: npt.NDArray[np.complex128] = white / np.maximum(1.0, np.arange(bins)) ** rng.uniform(0.0, 0.9)
    return coloured


def colour(wave: Wave, rng: np.random.Generator) -> Wave:
    """A random smooth equaliser, up to 10 dB either way."""
    spectrum = np.fft.rfft(wave)
    knots = rng.uniform(-10, 10, 8)
    gain_db = np.interp(np.linspace(0, 7, len(spectrum)), np.arange(8), knots)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(wave))


def band_limit(wave: Wave, rng: np.random.Generator) -> Wave:
    """Without what lies above 3.6 to 7.5 kHz and, every other time, below 80 to 350 Hz."""
    spectrum = np.fft.rfft(wave)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    top = rng.uniform(3600, 7500)
    gain = 1 / (1 + (hz / top) ** rng.uniform(20, 60))
    if rng.random() < 0.5:
        gain = gain * (1 - 1 / (1 + (hz / rng.uniform(80, 350)) ** 6))
    return np.fft.irfft(spectrum * gain, len(wave))


@dataclass
class Augmenter:
    """Draws renderings of items as a door may hear them; `rooms` are responses, `recordings` noises."""

    rooms: Sequence[Wave]
    recordings: Sequence[Wave]
    strength: float = 1.0
    replay_odds: float = 0.22
    room_odds: float = 0.2

    def __call__(self, item: Item, samples: int, rng: np.random.Generator) -> tuple[Wave, bool]:
        """(`samples` of `item`, whether they went through a loudspeaker)."""
        s = self.strength
        source = item.coded if rng.random() < 0.4 * s else item.wave
        rate = 1.0
        if rng.random() < 0.3 * s:
            rate = rng.uniform(0.92, 1.08)
        need = int(samples * rate) + 8
        start = int(rng.integers(0, max(1, len(source) - need)))
        wave: Wave = source[start : start + need].astype(np.float32) / 32768
        if rate != 1.0:
            wave = soxr.resample(wave, SAMPLE_RATE_HZ * rate, SAMPLE_RATE_HZ, quality="LQ")
        if len(wave) < samples:
            wave = np.tile(wave, -(-samples // max(1, len(wave))))
        wave = wave[:samples]
        if rng.random() < 0.35 * s:
            wave = colour(wave, rng)
        replayed = rng.random() < self.replay_odds
        if replayed:
            wave = loudspeaker(wave, rng)
        if replayed or rng.random() < self.room_odds * s:
            wave = convolve(wave, self.rooms[int(rng.integers(len(self.rooms)))])
        if rng.random() < 0.25 * s:
            wave = band_limit(wave, rng)
        if rng.random() < 0.1 * s:
            limit = np.abs(wave).max() * rng.uniform(0.3, 0.9)
            wave = np.clip(wave, -limit, limit)
        if rng.random() < 0.15 * s:
            step = 2.0 ** -rng.uniform(6, 10) * (np.abs(wave).max() + 1e-9)
            wave = np.round(wave / step) * step
        if rng.random() < 0.7 * s:
            wave = add_noise(wave, rng, self.recordings, rng.uniform(12, 45))
        return wave.astype(np.float32), replayed
