"""Looks at the context of an utterance: the replay memory, the place, one voice throughout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Utterance
from device.liveness import consistency, surroundings
from device.liveness.evidence import ContextEvidence
from device.liveness.fingerprint import Fingerprint, Fingerprinter
from device.liveness.search import Match
from device.liveness.weights import Weights, shipped

Floats = npt.NDArray[np.float32]


class Remembering(Protocol):
    """What was heard lately (`device/liveness/memory.py`)."""

    fingerprinter: Fingerprinter

    def find(self, heard: Fingerprint) -> Match: ...


@dataclass(frozen=True, slots=True)
class ContextChecks:
    """What needs no model of its own. Without a memory nothing is said about reuse."""

    weights: Weights
    memory: Remembering | None = None

    @classmethod
    def open(cls) -> ContextChecks:
        return cls(shipped())

    def look(self, utterance: Utterance, wave: Floats) -> ContextEvidence:
        """Reuse and surroundings of one utterance; `wave` are its samples. Raises LivenessError."""
        found = ContextEvidence(surroundings_llr=self._surroundings(utterance, wave))
        if self.memory is None:
            return found
        fingerprint = self.memory.fingerprinter(wave)
        match = self.memory.find(fingerprint)
        return replace(
            found,
            reuse_llr=self.weights.reuse.llr(-match.score),
            reused_share=match.reused_share,
            reuse_sources=match.sources,
            fingerprint=fingerprint,
        )

    def consistency_llr(
        self, speaker: consistency.Embedder, utterance: Utterance, wave: Floats
    ) -> float | None:
        """Whether one voice speaks from beginning to end; None when there is too little of it."""
        first, last = (round(s * SAMPLE_RATE_HZ) for s in (utterance.speech_start_s, utterance.speech_end_s))
        cosine = consistency.score(speaker, wave[first:last])
        return None if cosine is None else self.weights.consistency.llr(cosine)

    def _surroundings(self, utterance: Utterance, wave: Floats) -> float | None:
        first, last = (round(s * SAMPLE_RATE_HZ) for s in (utterance.speech_start_s, utterance.speech_end_s))
        before = utterance.before.astype(np.float32) / 32768.0
        found = surroundings.change(before, wave[first:last])
        before[:] = 0.0
        return None if found is None else self.weights.surroundings.llr(found.score)
