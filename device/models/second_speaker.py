"""The speaker network beside the one in use, while people come over from one to the other.

A bundle has it under the role `speaker-next` where it is to follow, `speaker-before` where it was followed,
with a calibration of its own. Its input's name says which front end it needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device.audio.utterance import Wave
from device.model_store.bundle import Bundle
from device.model_store.calibration import Calibration
from device.model_store.manifest import BundleError
from device.model_store.sessions import OnnxSession, Session
from device.models.features import kaldi_fbank
from device.models.resemblyzer import Resemblyzer
from device.models.speaker import MIN_ENROLMENT, Embedding, SpeakerError

NEXT = "speaker-next"
BEFORE = "speaker-before"


class SecondSpeaker:
    """`device.evidence.judge.SpeakerCheck` on embeddings of any size."""

    def __init__(self, session: Session, front_end: str, calibration: Calibration, version: str) -> None:
        """`front_end` is `features` (80 Kaldi filter banks) or `mel` (Resemblyzer's). Raises BundleError."""
        self.version = version
        self._calibration = calibration
        self._session = session
        if front_end == "mel":
            self._embed = Resemblyzer(session, version).embed
        elif front_end == "features":
            self._embed = self._of_features
        else:
            raise BundleError(f"{version} needs a front end {front_end!r}, which this unit lacks")

    @classmethod
    def open(cls, bundle: Bundle, role: str, threads: int = 1) -> SecondSpeaker | None:
        """That of a verified bundle, None where it has none. Raises BundleError or SessionError."""
        entries = {entry.role: entry for entry in bundle.manifest.files}
        if role not in entries:
            return None
        if {NEXT, BEFORE} <= entries.keys():
            raise BundleError(f"a bundle has {NEXT} or {BEFORE}: one speaker model is followed at a time")
        names = [port.name for port in entries[role].inputs]
        session = OnnxSession(bundle.path(role), threads)
        return cls(session, names[0] if names else "", bundle.calibration(role), bundle.version(role))

    def embed(self, wave: Wave) -> Embedding:
        """Unit embedding of mono speech at 16 kHz, (n,) float32. Raises WaveError or SpeakerError."""
        return _unit(self._embed(wave))

    def llr(self, probe: Embedding, template: Embedding) -> float:
        """Natural-log likelihood ratio that both are one person. Raises SpeakerError."""
        if probe.shape != template.shape:
            raise SpeakerError("two embeddings of different networks cannot be compared")
        return self._calibration.llr(float(np.dot(_unit(probe), _unit(template))))

    def template(self, embeddings: Sequence[Embedding]) -> Embedding:
        """The mean direction of three or more. Raises SpeakerError."""
        if len(embeddings) < MIN_ENROLMENT:
            raise SpeakerError(f"enrolment needs {MIN_ENROLMENT} recordings, not {len(embeddings)}")
        return _unit(np.stack(embeddings).mean(axis=0))

    def _of_features(self, wave: Wave) -> Embedding:
        raw = self._session.run({"features": kaldi_fbank(wave)[np.newaxis]})[0]
        return np.asarray(raw.reshape(-1), dtype=np.float32)


def _unit(vector: Embedding) -> Embedding:
    length = float(np.linalg.norm(vector)) if np.isfinite(vector).all() else 0.0
    if length < 1e-6:
        raise SpeakerError("the speaker network gave an embedding without direction")
    return (vector / length).astype(np.float32, copy=False)
