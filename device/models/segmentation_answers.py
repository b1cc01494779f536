"""Opens the segmentation only where this processor computes what it must.

The bundle says what the network makes of one known recording: the mean probability of each set of speakers.
It is a fraction of a second, so it is asked at every start; there is nothing to remember.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.model_store.answers import recording_name
from device.model_store.bundle import Bundle, read_limited
from device.model_store.manifest import BundleError
from device.model_store.pick import Notify
from device.model_store.sessions import ONNX_FORMS
from device.models.segmentation import ROLE, SETS, WINDOW_SAMPLES, SegmentationModel
from device.models.self_test import SelfTestError, recordings_of
from sync.errors import MALFORMED
from sync.plain_words import malformed

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
            name, tolerance = recording_name(heard["name"]), float(document["tolerance"])
            if document["format"] != FORMAT or len(means) != len(SETS) or not 0.0 < tolerance < 0.5:
                raise ValueError("another form")
            if not all(0.0 <= mean <= 1.0 for mean in means):
                raise ValueError("values out of range")
            return cls(str(document["file"]), name, str(heard["sha256"]), means, tolerance)
        except MALFORMED as err:
            raise BundleError(
                f"the segmentation's answers are damaged ({malformed(err)}); run `ostiary models build "
                f"--only {ROLE}`"
            ) from err


def open_segmentation(bundle: Bundle, notify: Notify = lambda text: None) -> SegmentationModel:
    """The segmentation in the first form that answers rightly here; `notify` hears of one that strays.
    Raises BundleError where the bundle lacks it, SelfTestError where no form can be trusted."""
    network = bundle.manifest.entry(ROLE)  # asked first: building it makes its answers too
    answers = SegmentationAnswers.from_bytes(read_limited(bundle.path(ANSWERS_ROLE), MAX_ANSWERS_BYTES))
    if answers.file != network.sha256:
        raise BundleError(
            f"the segmentation's answers are another network's; run `ostiary models build --only {ROLE}`"
        )
    wave = recordings_of({answers.recording: answers.sha256})[answers.recording]
    for form in ONNX_FORMS:
        try:
            model = SegmentationModel.open(bundle, 1, form, notify)
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
