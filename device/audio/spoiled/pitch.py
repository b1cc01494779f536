"""How much sound repeats itself at a voice's pitch (autocorrelation; Boersma 1993). Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ

PITCH_RANGE_HZ = (62.0, 400.0)


def pitch_strength(frames: npt.NDArray[np.float32], first: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """(n,) for the frames `first` (n,) of `frames` (frames, FRAME_SAMPLES): how well the 40 ms from there on
    repeat themselves at a voice's pitch, 1 being perfectly. A click in the window's skirt gives more."""
    following = np.minimum(first + 1, len(frames) - 1)
    windows = np.concatenate((frames[first], frames[following]), axis=1)
    windows -= windows.mean(axis=1, keepdims=True)
    windows *= _WINDOW
    power = np.square(np.abs(rfft(windows, _FFT_SAMPLES, axis=1))) * _IN_PITCH_BAND
    windows[:] = 0.0
    correlation = np.fft.irfft(power, axis=1)
    # The window's own autocorrelation is divided out (Boersma 1993), or long periods would look weak.
    strength = (correlation[:, _LAGS] / _WINDOW_CORRELATION[_LAGS]).max(axis=1)
    strength /= np.maximum(correlation[:, 0], 1e-12)
    return np.asarray(strength, np.float64)


_WINDOW_SAMPLES = 2 * FRAME_SAMPLES
_FFT_SAMPLES = 1_024  # lags up to 384 samples are free of wrap-around; the longest we use is 258
_WINDOW = np.hanning(_WINDOW_SAMPLES).astype(np.float32)
_WINDOW_CORRELATION = np.correlate(_WINDOW, _WINDOW, "full")[_WINDOW_SAMPLES - 1 :].astype(np.float64)
_WINDOW_CORRELATION /= _WINDOW_CORRELATION[0]
_LAGS = slice(int(SAMPLE_RATE_HZ / PITCH_RANGE_HZ[1]), int(SAMPLE_RATE_HZ / PITCH_RANGE_HZ[0]) + 1)
_BINS_HZ = np.fft.rfftfreq(_FFT_SAMPLES, 1.0 / SAMPLE_RATE_HZ)
_IN_PITCH_BAND = (_BINS_HZ >= 60.0) & (_BINS_HZ <= 2_000.0)
