"""Opens the segmentation only where this processor computes what it must.

The bundle says what the network makes of one known recording: the mean probability of each set of speakers.
It is a fraction of a second, so it is asked at every start; there is nothing to remember.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.errors import DeviceError
from device.model_store.bundle import Bundle, read_limited
from device.model_store.manifest import BundleError
from device.model_store.pick import Notify
from device.model_store.sessions import ONNX_FORMS
from device.models.features import Wave
from device.models.segmentation import ROLE, SETS, WINDOW_SAMPLES, SegmentationModel
from device.models.self_test import PACKAGE, RECORDINGS, SelfTestError
from sync.plain_file import plain_bytes

ANSWERS_ROLE = "segmentation-answers"
FORMAT = 1
MAX_ANSWERS_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SegmentationAnswers:
    """What the network of this SHA-256 must say of `recording`, and how far a mean may be off."""

    file: str
    recording: str
    sha256: str
    means: tuple[float, ...]
    tolerance: float

    def to_bytes(self) -> bytes:
        document = {
            "format": FORMAT,
            "file": self.file,
            "recording": {"name": self.recording, "sha256": self.sha256},
            "means": self.means,
            "tolerance": self.tolerance,
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> SegmentationAnswers:
        """Raises BundleError for anything but what `to_bytes` writes."""
        try:
            document: dict[str, Any] = json.loads(data)
            heard = document["recording"]
            means = tuple(float(mean) for mean in document["means"])
            name, tolerance = str(heard["name"]), float(document["tolerance"])
            if document["format"] != FORMAT or len(means) != len(SETS) or not 0.0 < tolerance < 0.5:
                raise ValueError("another form")
            if name.startswith("/") or ".." in name.split("/") or not all(0.0 <= m <= 1.0 for m in means):
                raise ValueError("values out of range")
            return cls(str(document["file"]), name, str(heard["sha256"]), means, tolerance)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
            raise BundleError(
                f"the segmentation's answers are damaged ({err}); run `ostiary models build --only {ROLE}`"
            ) from err

    def wave(self, folder: Path = RECORDINGS) -> Wave:
        """The recording, mono at 16 kHz. Raises SelfTestError where it is missing or another one."""
        try:
            data = plain_bytes(folder / self.recording)
        except OSError as err:
            raise SelfTestError(
                f"the self-test's recordings are missing; run: sudo apt-get install {PACKAGE}"
            ) from err
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise SelfTestError(f"{self.recording} is not the self-test's recording; reinstall {PACKAGE}")
        return read_recording(data, FileLimits()).astype(np.float32) / np.float32(32768.0)


def open_segmentation(
    bundle: Bundle, threads: int = 1, notify: Notify = lambda text: None, folder: Path = RECORDINGS
) -> SegmentationModel:
    """The segmentation in the first form that answers rightly here; `notify` hears of one that strays.

    Raises BundleError where the bundle lacks it, SelfTestError where no form can be trusted.
    """
    answers = SegmentationAnswers.from_bytes(read_limited(bundle.path(ANSWERS_ROLE), MAX_ANSWERS_BYTES))
    if answers.file != bundle.manifest.entry(ROLE).sha256:
        raise BundleError(
            f"the segmentation's answers are another network's; run `ostiary models build --only {ROLE}`"
        )
    wave = answers.wave(folder)
    for form in ONNX_FORMS:
        try:
            model = SegmentationModel.open(bundle, threads, form, notify)
            strays = float(np.abs(means_of(model, wave) - answers.means).max())
        except BundleError:
            raise
        except DeviceError as err:
            notify(f"self-test: the segmentation fails in {form} ({err})")
            continue
        if strays <= answers.tolerance:
            return model
        notify(f"self-test: the segmentation strays in {form} by {strays:.3f}")
    raise SelfTestError(
        "self-test: the segmentation cannot be trusted on this machine, so nobody is told apart here; run "
        f"`ostiary models build --only {ROLE}`"
    )


def means_of(model: SegmentationModel, wave: Wave) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Mean probability of each set of speakers, (7,), over the first ten seconds."""
    return np.asarray(model.sets(wave[:WINDOW_SAMPLES]).mean(axis=0))
