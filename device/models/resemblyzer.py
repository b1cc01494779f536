"""Resemblyzer: a second opinion on whose voice it is, without torch or librosa.

Follows the authors' 0.1.4 release (Apache-2.0): volume raised to -30 dBFS, long silences cut by WebRTC VAD,
40 mel power bands of 25 ms every 10 ms, windows of 160 frames, their embeddings averaged.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import webrtcvad

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.model_store.bundle import Bundle
from device.model_store.sessions import OnnxSession, Session
from device.models.words.log_mel import mel_filters

ROLE = "resemblyzer"
FFT_SAMPLES, HOP_SAMPLES, MEL_BANDS = 400, 160, 40
WINDOW_FRAMES, WINDOWS_PER_S, LEAST_COVERAGE = 160, 1.3, 0.75
TARGET_DBFS = -30.0
VAD_WINDOW_SAMPLES, VAD_AVERAGE, VAD_LONGEST_SILENCE = 480, 8, 6


class Resemblyzer:
    """16 kHz speech to one unit vector of shape (256,)."""

    def __init__(self, session: Session, version: str) -> None:
        """Over an opened network, INT8 or float."""
        self._session = session
        self.version = version

    @classmethod
    def open(cls, bundle: Bundle, threads: int = 1) -> Resemblyzer:
        """The INT8 network of a verified bundle that has one; raises BundleError or SessionError."""
        return cls(OnnxSession(bundle.path(ROLE), threads), bundle.version(ROLE))

    def embed(self, wave: Wave) -> npt.NDArray[np.float32]:
        """The voice in `wave` (n,) as float32 of shape (256,), unit norm. Raises SessionError."""
        (embeddings,) = self._session.run({"mel": mel_batch(prepare(wave))})
        mean = np.asarray(embeddings, dtype=np.float32).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def mel_batch(prepared: Wave) -> npt.NDArray[np.float32]:
    """The windows of 160 frames that the network sees of a prepared wave: (windows, 160, 40)."""
    windows, samples = mel_windows(len(prepared))
    mel = mel_power(np.pad(prepared, (0, max(0, samples - len(prepared)))))
    return np.stack([mel[start : start + WINDOW_FRAMES] for start in windows])


def prepare(wave: Wave) -> Wave:
    """Louder where too quiet, without long silences. A wave without speech comes back whole."""
    power = float(np.mean(wave.astype(np.float64) ** 2))
    gain_db = TARGET_DBFS - 10 * math.log10(power) if power > 0 else 0.0
    louder = (wave * 10 ** (max(0.0, gain_db) / 20)).astype(np.float32)
    trimmed = _trim_long_silences(louder)
    return trimmed if len(trimmed) else louder


def _trim_long_silences(wave: Wave) -> Wave:
    windows = len(wave) // VAD_WINDOW_SAMPLES
    wave = wave[: windows * VAD_WINDOW_SAMPLES]
    pcm = np.round(wave * 32767).clip(-32768, 32767).astype(np.int16).reshape(windows, -1)
    vad = webrtcvad.Vad(3)
    voiced = np.array([vad.is_speech(window.tobytes(), SAMPLE_RATE_HZ) for window in pcm], dtype=np.float64)
    padded = np.pad(voiced, ((VAD_AVERAGE - 1) // 2, VAD_AVERAGE // 2))
    kernel = np.ones(VAD_AVERAGE) / VAD_AVERAGE
    # np.round rounds halves to even, as the authors' code does.
    steady = np.round(np.convolve(padded, kernel, "valid")) > 0 if windows else np.zeros(0, dtype=bool)
    kept = _dilate(steady, VAD_LONGEST_SILENCE + 1)
    return wave[np.repeat(kept, VAD_WINDOW_SAMPLES)]


def _dilate(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    padded = np.pad(mask, width // 2)
    return np.array([padded[i : i + width].any() for i in range(len(mask))], dtype=bool)


def mel_windows(samples: int) -> tuple[list[int], int]:
    """(first frame of every window, samples that the last one needs) for a wave of `samples` samples."""
    frames = math.ceil((samples + 1) / HOP_SAMPLES)
    step = round(SAMPLE_RATE_HZ / WINDOWS_PER_S / HOP_SAMPLES)
    starts = list(range(0, max(1, frames - WINDOW_FRAMES + step + 1), step))
    window_samples = WINDOW_FRAMES * HOP_SAMPLES
    coverage = (samples - starts[-1] * HOP_SAMPLES) / window_samples
    if coverage < LEAST_COVERAGE and len(starts) > 1:
        starts.pop()
    return starts, starts[-1] * HOP_SAMPLES + window_samples


def mel_power(wave: Wave) -> npt.NDArray[np.float32]:
    """Mel power spectrogram of shape (1 + n // 160, 40), not logarithmic; frames are centred, zero-padded."""
    padded = np.pad(wave, FFT_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES)
    power = np.abs(rfft(frames * hann, axis=1)) ** 2
    return np.asarray(power @ mel_filters(MEL_BANDS).T, dtype=np.float32)
