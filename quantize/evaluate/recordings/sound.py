"""Recordings as the samples that networks take."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import Wave


def read_wave(path: Path) -> Wave:
    """A recording as float32 in [-1, 1), mono at 16 kHz, shape (n,). Raises DeviceError for what is none."""
    return read_recording(path, FileLimits()).astype(np.float32) / np.float32(32768.0)
