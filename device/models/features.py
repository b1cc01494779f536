"""Front ends: from a wave to the features a network was trained on."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError

Wave = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

FBANK_BINS = 80
MIN_WAVE_S = 0.5
MAX_WAVE_S = 60.0


class WaveError(DeviceError):
    """The samples are not speech that a model could judge."""


def check_wave(wave: Wave) -> Wave:
    """`wave` itself when it is float32 of shape (n,), finite and long enough; WaveError otherwise."""
    if not isinstance(wave, np.ndarray) or wave.dtype != np.float32 or wave.ndim != 1:
        raise WaveError("a wave must be float32 of shape (n,)")
    seconds = len(wave) / SAMPLE_RATE_HZ
    if not MIN_WAVE_S <= seconds <= MAX_WAVE_S:
        raise WaveError(f"a wave must last {MIN_WAVE_S:g} to {MAX_WAVE_S:g} s, not {seconds:.2f} s")
    if not np.isfinite(wave).all():
        raise WaveError("a wave must be finite; this one holds NaN or infinity")
    if not np.any(wave):
        raise WaveError("a wave of zeros holds no speech")
    return wave


def kaldi_fbank(wave: Wave) -> Features:
    """Log mel energies as Kaldi computes them, (frames, 80) float32, every bin's mean over the wave removed.

    25 ms Povey windows every 10 ms, no dither: the front end CAM++ was trained with. Raises WaveError.
    """
    bank = knf.OnlineFbank(_fbank_options())
    bank.accept_waveform(SAMPLE_RATE_HZ, check_wave(wave))
    bank.input_finished()
    features = np.empty((bank.num_frames_ready, FBANK_BINS), dtype=np.float32)
    for frame in range(bank.num_frames_ready):
        features[frame] = bank.get_frame(frame)
    features -= features.mean(axis=0)
    return features


def _fbank_options() -> knf.FbankOptions:
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE_HZ
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = FBANK_BINS
    return options
