"""Copy-synthesis: real speech taken apart and put together again by a vocoder.

Each attack keeps speaker, words, room and microphone of its source, so only the vocoder's own traces tell the
two apart (Wang and Yamagishi, ICASSP 2023, train on such pairs).
"""

from __future__ import annotations

import numpy as np
from scipy import signal

RATE_HZ = 16_000


def world(wave, rng):
    """WORLD analysis and resynthesis (Morise 2016), sometimes with pitch and formants moved."""
    import pyworld

    x = wave.astype(np.float64)
    f0, times = pyworld.dio(x, RATE_HZ)
    f0 = pyworld.stonemask(x, f0, times, RATE_HZ)
    envelope = pyworld.cheaptrick(x, f0, times, RATE_HZ)
    aperiodicity = pyworld.d4c(x, f0, times, RATE_HZ)
    if rng.random() < 0.5:
        f0 = f0 * 2.0 ** rng.uniform(-0.4, 0.4)
    if rng.random() < 0.4:
        envelope = _warp(envelope, rng.uniform(0.88, 1.12))
    return pyworld.synthesize(f0, envelope, aperiodicity, RATE_HZ)


def _warp(envelope, factor):
    bins = np.arange(envelope.shape[1])
    source = np.clip(bins / factor, 0, bins[-1])
    return np.ascontiguousarray(np.stack([np.interp(source, bins, row) for row in envelope]))


def mel_matrix(mels, fft_size, top_hz=8000.0):
    """Triangular mel filters, shape (mels, fft_size // 2 + 1)."""
    mel = np.linspace(0.0, 2595 * np.log10(1 + top_hz / 700), mels + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    freqs = np.linspace(0, RATE_HZ / 2, fft_size // 2 + 1)
    up = (freqs - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    down = (hz[2:, None] - freqs) / (hz[2:] - hz[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(up, down))


def griffin_lim(wave, rng, mels=80):
    """Mel spectrogram, inverted by pseudo-inverse and fast Griffin-Lim (Perraudin 2013)."""
    fft_size = int(rng.choice([512, 1024]))
    hop = fft_size // 4
    spectrum = signal.stft(wave, nperseg=fft_size, noverlap=fft_size - hop)[2]
    matrix = mel_matrix(mels, fft_size)
    magnitude = np.maximum(1e-7, np.linalg.pinv(matrix) @ (matrix @ np.abs(spectrum)))
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape))
    previous = np.zeros_like(phase)
    for _ in range(int(rng.integers(16, 48))):
        sound = signal.istft(magnitude * phase, nperseg=fft_size, noverlap=fft_size - hop)[1]
        again = signal.stft(sound, nperseg=fft_size, noverlap=fft_size - hop)[2][:, : magnitude.shape[1]]
        step = again + 0.99 * (again - previous)
        previous = again
        phase = step / np.maximum(1e-12, np.abs(step))
    return signal.istft(magnitude * phase, nperseg=fft_size, noverlap=fft_size - hop)[1]


def lpc(wave, rng):
    """Linear prediction with the residual replaced by pulses or noise, as the classical vocoders do."""
    import pyworld

    order, hop, size = int(rng.integers(14, 22)), 80, 400
    f0, _ = pyworld.dio(wave.astype(np.float64), RATE_HZ, frame_period=5.0)
    window = np.hanning(size)
    out = np.zeros(len(wave) + size)
    phase = 0.0
    for index, start in enumerate(range(0, len(wave) - size, hop)):
        frame = wave[start : start + size] * window
        r = np.correlate(frame, frame, "full")[size - 1 : size + order]
        if r[0] < 1e-8:
            continue
        r[0] *= 1.0001
        from scipy.linalg import solve_toeplitz

        a = solve_toeplitz(r[:-1], r[1:])
        gain = np.sqrt(max(1e-12, r[0] - a @ r[1:]) / size)
        pitch = f0[min(index, len(f0) - 1)]
        excitation = np.zeros(size)
        if pitch > 0:
            period = RATE_HZ / pitch
            first = (-phase) % period
            excitation[np.arange(first, size, period).astype(int)] = np.sqrt(period)
            phase = (phase + hop) % period
        else:
            excitation = rng.standard_normal(size)
        voiced = signal.lfilter([gain], np.concatenate([[1.0], -a]), excitation)
        out[start : start + size] += voiced * window
    return out[: len(wave)]


VOCODERS = {"world": world, "griffinlim": griffin_lim, "lpc": lpc}
