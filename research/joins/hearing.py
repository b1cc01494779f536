"""What recorders, editors, loudspeakers and rooms do to a sound, in single precision: it is done often."""

from __future__ import annotations

import numpy as np
import scipy.fft

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.playback import rms


def fill(kind: int, tone: Wave, seconds: float, dice) -> Wave:
    """Silence, room tone that is made, or a quiet moment over and over."""
    length = round(seconds * SAMPLE_RATE_HZ)
    if kind == 0 or length < 2:
        return np.zeros(length, np.float32)
    if kind == 3:
        there_and_back = np.concatenate([tone, tone[::-1]])
        return np.resize(np.roll(there_and_back, int(dice.integers(len(there_and_back)))), length)
    size = 1 << max(9, (len(tone) - 1).bit_length())
    shape = np.abs(scipy.fft.rfft((tone * np.hanning(len(tone))).astype(np.float32), size))
    shape = np.sqrt(np.convolve(np.pad(shape**2, 4, mode="edge"), np.full(9, 1 / 9), "valid"))
    whole = scipy.fft.next_fast_len(length, True)
    spectrum = scipy.fft.rfft(dice.standard_normal(whole, np.float32))
    spectrum *= np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, len(shape)), shape).astype(
        np.float32
    )
    noise = scipy.fft.irfft(spectrum, whole)[:length]
    return (noise * np.float32(rms(tone) / max(rms(noise), 1e-12))).astype(np.float32)


def handled(wave: Wave, dice) -> Wave:
    """What recorders do to all of an answer: nothing, an equaliser, a compressor, a gate."""
    what = dice.random()
    if what < 0.15:
        hz = np.linspace(0, SAMPLE_RATE_HZ / 2, 129)
        gain_db = np.zeros(129)
        for _ in range(3):
            centre_hz, octaves = 100.0 * 2.0 ** dice.uniform(0.0, 6.2), dice.uniform(0.5, 1.5)
            octaves_away = np.log2(np.maximum(hz, 20.0) / centre_hz) / octaves
            gain_db += dice.normal(0.0, 4.0) * np.exp(-0.5 * octaves_away**2)
        return filtered(wave, hz, 10 ** (gain_db / 20))
    if what < 0.35:
        size = 160
        frames = wave[: max(1, len(wave) // size) * size]
        level = np.sqrt((frames.reshape(-1, min(size, len(frames))) ** 2).mean(axis=1) + 1e-10)
        level = np.convolve(np.pad(level, 6, mode="edge"), np.full(13, 1 / 13), "valid")
        loud = float(np.percentile(level, 90))
        if what < 0.27:
            gain = (np.maximum(level, 0.03 * loud) / loud) ** -float(dice.uniform(0.2, 0.5))
        else:
            gain = np.clip(level / (loud * 10 ** (-dice.uniform(26, 36) / 20)), dice.uniform(0.1, 0.6), 1.0)
        times = np.arange(len(wave)) / size
        return (wave * np.interp(times, np.arange(len(gain)) + 0.5, gain)).astype(np.float32)
    return wave


def played(wave: Wave, dice) -> Wave:
    """As it leaves one of many loudspeakers."""
    drive = float(dice.uniform(0.3, 3.0))
    level = wave / max(float(np.abs(wave).max()), 1e-9)
    bent = np.tanh(drive * (level + 0.08 * drive * level**2)).astype(np.float32)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, 513)
    power = 2 * int(dice.integers(1, 5))
    low_hz, high_hz = dice.uniform(80, 600), dice.uniform(3_400, 7_900)
    at_hz = np.maximum(hz, 1.0)
    gain = 1.0 / np.sqrt((1 + (low_hz / at_hz) ** power) * (1 + (at_hz / high_hz) ** power))
    for _ in range(int(dice.integers(1, 6))):
        centre_hz, octaves = dice.uniform(300, 5_000), dice.uniform(0.2, 1.0)
        gain *= 10 ** (dice.uniform(-9, 9) / 20 * np.exp(-0.5 * (np.log2(at_hz / centre_hz) / octaves) ** 2))
    return filtered(bent, hz, gain)


def filtered(wave: Wave, hz, gain) -> Wave:
    size = scipy.fft.next_fast_len(len(wave) + 1_024, True)
    spectrum = scipy.fft.rfft(wave, size)
    axis = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    return scipy.fft.irfft(spectrum * np.interp(axis, hz, gain).astype(np.float32), size)[: len(wave)]


def convolved(wave: Wave, response: Wave) -> Wave:
    length = len(wave) + len(response) - 1
    size = scipy.fft.next_fast_len(length, True)
    both = scipy.fft.rfft(wave, size) * scipy.fft.rfft(response, size)
    return scipy.fft.irfft(both, size)[:length]


def coloured(length: int, slope: float, dice: np.random.Generator) -> Wave:
    """Steady noise (length,) whose amplitude falls with the frequency to this power: 0 white, 0.5 pink."""
    size = scipy.fft.next_fast_len(max(2, length), True)
    spectrum = scipy.fft.rfft(dice.standard_normal(size, np.float32))
    spectrum *= (np.maximum(np.arange(len(spectrum)), 16.0) ** -slope).astype(np.float32)
    return scipy.fft.irfft(spectrum, size)[:length]
