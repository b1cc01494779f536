"""Compares voices: CAM++ embeddings, their cosine, and a calibrated LLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.model_store.bundle import Bundle
from device.model_store.calibration import Calibration
from device.model_store.pick import Notify, open_role
from device.model_store.sessions import Runtime, Session
from device.models.features import kaldi_fbank

Embedding = npt.NDArray[np.float32]

EMBEDDING_SIZE = 192
MIN_ENROLMENT = 3
ROLE = "speaker"


class SpeakerError(DeviceError):
    """The voice cannot be judged; the message says why."""


class InconsistentEnrolmentError(SpeakerError):
    """The recordings do not sound like one person: record again."""


class SpeakerModel:
    """One opened speaker network with its calibration."""

    def __init__(self, session: Session, calibration: Calibration, version: str) -> None:
        self._session = session
        self._calibration = calibration
        self.version = version

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        threads: int = 1,
        runtime: Runtime = Runtime.ONNX,
        notify: Notify = lambda text: None,
    ) -> SpeakerModel:
        """From a verified bundle; raises BundleError or SessionError. The version is the network's,
        whatever runs it: a voiceprint stays good when the runtime changes."""
        session = open_role(bundle, ROLE, threads, runtime, notify)
        return cls(session, bundle.calibration(ROLE), bundle.version(ROLE))

    def embed(self, wave: Wave) -> Embedding:
        """Unit embedding (192,) float32 of mono speech at 16 kHz. Raises WaveError for samples that cannot
        be speech, SpeakerError when there is no direction."""
        features = kaldi_fbank(wave)
        raw = self._session.run({"features": features[np.newaxis]})[0]
        try:
            return unit(raw.reshape(-1))
        finally:
            if raw.flags.writeable:
                raw[...] = 0.0

    def score(self, probe: Embedding, template: Embedding) -> float:
        """Cosine of two unit embeddings. Raises SpeakerError when either is not one."""
        return float(np.dot(checked(probe), checked(template)))

    def llr(self, probe: Embedding, template: Embedding) -> float:
        """Natural-log likelihood ratio that `probe` and `template` are one person."""
        return self._calibration.llr(self.score(probe, template))

    def template(self, embeddings: Sequence[Embedding]) -> Embedding:
        """The enrolment template: the mean direction of three or more unit embeddings of one person.
        Raises SpeakerError for too few, InconsistentEnrolmentError when one speaks against the others."""
        if len(embeddings) < MIN_ENROLMENT:
            raise SpeakerError(f"enrolment needs {MIN_ENROLMENT} recordings, not {len(embeddings)}")
        stacked = np.stack([checked(embedding) for embedding in embeddings])
        try:
            for number in range(len(stacked)):
                others = _mean_direction(np.delete(stacked, number, axis=0))
                fits = self.llr(stacked[number], others) >= 0.0
                others[:] = 0.0
                if not fits:
                    raise InconsistentEnrolmentError(
                        f"recording {number + 1} does not sound like the others; record it again, "
                        "one person only"
                    )
            return _mean_direction(stacked)
        finally:
            stacked[:] = 0.0


def _mean_direction(rows: npt.NDArray[np.float32]) -> Embedding:
    """Of unit embeddings (n, 192), which are overwritten."""
    mean = rows.mean(axis=0)
    try:
        return unit(mean)
    finally:
        mean[:] = 0.0
        rows[:] = 0.0


def unit(vector: npt.NDArray[np.floating[Any]]) -> Embedding:
    """`vector` scaled to length one, (192,) float32; raises SpeakerError when it has no direction."""
    if vector.shape != (EMBEDDING_SIZE,) or not np.isfinite(vector).all():
        raise SpeakerError("the speaker network gave no usable embedding")
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise SpeakerError("the speaker network gave an embedding without direction")
    return (vector / length).astype(np.float32, copy=False)  # a second copy would stay in memory


def checked(embedding: Embedding) -> Embedding:
    """`embedding` itself when it is a unit vector (192,); raises SpeakerError otherwise."""
    if embedding.shape != (EMBEDDING_SIZE,) or not np.isfinite(embedding).all():
        raise SpeakerError(f"an embedding must be finite and of shape ({EMBEDDING_SIZE},)")
    if abs(float(np.linalg.norm(embedding)) - 1.0) > 1e-3:
        raise SpeakerError("an embedding must have length one")
    return embedding
