"""Tells who speaks when in one stretch of sound: pyannote segmentation 3.0 (Plaquet & Bredin, 2023).

The network tells at most three voices apart, of which two may speak at once. Its voices are numbers that mean
something within one stretch only; embeddings say whose they are (`device/conversation`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.errors import DeviceError
from device.model_store.bundle import Bundle
from device.model_store.pick import Notify, open_role
from device.model_store.sessions import Runtime, Session

ROLE = "segmentation"
VOICES = 3
WINDOW_SAMPLES = 160_000
"""What the network was trained on: ten seconds."""
FRAME_SAMPLES = 270
"""From one frame to the next, 16.9 ms."""
FIELD_SAMPLES = 991
"""What one frame hears: frame i begins at sample i * FRAME_SAMPLES."""
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
WINDOW_FRAMES = 1 + (WINDOW_SAMPLES - FIELD_SAMPLES) // FRAME_SAMPLES
SETS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
"""Which voices each of the network's seven classes means."""

Sets = npt.NDArray[np.float32]
"""Probability of each of the seven SETS, (frames, 7)."""
Activity = npt.NDArray[np.float32]
"""Probability that each voice speaks, (frames, VOICES)."""


class SegmentationModel:
    """One opened segmentation network."""

    def __init__(self, session: Session, version: str) -> None:
        self._session = session
        self.version = version

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        threads: int = 1,
        runtime: Runtime = Runtime.ONNX,
        notify: Notify = lambda text: None,
    ) -> SegmentationModel:
        """From a verified bundle; raises BundleError (it is an optional part of it) or SessionError."""
        return cls(open_role(bundle, ROLE, threads, runtime, notify), bundle.version(ROLE))

    def sets(self, wave: Wave) -> Sets:
        """Probability of each of the seven SETS, (frames, 7), in mono float32 of at most ten seconds.
        Raises DeviceError for a wave of another kind or length, or that is not finite."""
        if wave.dtype != np.float32 or wave.ndim != 1:
            raise DeviceError("a wave must be float32 of shape (n,)")
        if not FIELD_SAMPLES <= len(wave) <= WINDOW_SAMPLES:
            raise DeviceError(f"a window has {FIELD_SAMPLES} to {WINDOW_SAMPLES} samples")
        if not np.isfinite(wave).all():
            raise DeviceError("a wave must be finite; this one holds NaN or infinity")
        found: npt.NDArray[Any] = np.exp(self._session.run({"wave": wave[np.newaxis, np.newaxis]})[0][0])
        if found.shape[1] != len(SETS) or not np.isfinite(found).all():
            raise DeviceError("the segmentation network gave no usable answer; rebuild the models")
        return found.astype(np.float32)


def frames_of(samples: int) -> int:
    """How many frames the network makes of so many samples."""
    return max(0, 1 + (samples - FIELD_SAMPLES) // FRAME_SAMPLES)


def speaking(sets: Sets) -> Activity:
    """Probability that each voice speaks, (frames, VOICES), from that of each set."""
    return np.asarray(sets @ _MEMBERS)


def somebody(sets: Sets) -> npt.NDArray[np.float32]:
    """Probability that anybody speaks, (frames,)."""
    return np.asarray(1.0 - sets[:, 0], np.float32)


def several(sets: Sets) -> npt.NDArray[np.float32]:
    """Probability that two speak at once, (frames,)."""
    return np.asarray(sets[:, _MEMBERS.sum(axis=1) > 1].sum(axis=1), np.float32)


def decided(sets: Sets) -> npt.NDArray[np.bool_]:
    """Which voices the likeliest set of each frame names, (frames, VOICES)."""
    return np.asarray(_MEMBERS[sets.argmax(axis=1)] > 0)


_MEMBERS = np.array([[voice in one for voice in range(VOICES)] for one in SETS], dtype=np.float32)
