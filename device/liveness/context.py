"""Looks at the context of an utterance: whether it was heard before, was pasted together, and is of one
voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.coughs import coughs, without
from device.audio.utterance import SAMPLE_RATE_HZ, Utterance
from device.liveness import consistency
from device.liveness.evidence import ContextEvidence
from device.liveness.fingerprint import Fingerprint, Fingerprinter
from device.liveness.joins import JoinNetworks, shipped_network
from device.liveness.search import Match
from device.liveness.weights import Weights, shipped

Floats = npt.NDArray[np.float32]

ASKED_BELOW_LLR = 1.0
"""Of the evidence for joins: above, coughs cost nobody a decision, and are not looked for."""


class Remembering(Protocol):
    """What was heard lately (`device/liveness/memory.py`)."""

    fingerprinter: Fingerprinter

    def find(self, heard: Fingerprint) -> Match: ...


@dataclass(frozen=True, slots=True)
class ContextChecks:
    """What needs no model of its own. Without a memory nothing is said about reuse."""

    weights: Weights
    network: JoinNetworks
    memory: Remembering | None = None

    @classmethod
    def open(cls) -> ContextChecks:
        return cls(shipped(), shipped_network())

    def look(self, wave: Floats) -> ContextEvidence:
        """Whether one utterance was heard before or pasted together; `wave` are its samples. Raises
        LivenessError."""
        joins_llr, uncoughed_llr = self._joined(wave)
        if self.memory is None:
            return ContextEvidence(joins_llr=joins_llr, uncoughed_llr=uncoughed_llr)
        fingerprint = self.memory.fingerprinter(wave)
        match = self.memory.find(fingerprint)
        return ContextEvidence(
            reuse_llr=self.weights.reuse.llr(-match.score),
            reused_share=match.reused_share,
            reuse_sources=match.sources,
            joins_llr=joins_llr,
            uncoughed_llr=uncoughed_llr,
            fingerprint=fingerprint,
        )

    def _joined(self, wave: Floats) -> tuple[float, float | None]:
        """The LLR of one go, and the same without coughs, where these may be at fault."""
        llr = self.weights.joins.llr(self.network(wave).score)
        if llr >= ASKED_BELOW_LLR or not (spans := coughs(wave)):
            return llr, None
        clean = without(wave, spans)
        try:
            return llr, self.weights.joins.llr(self.network(clean).score)
        finally:
            clean[:] = 0.0

    def consistency_llr(
        self, speaker: consistency.Embedder, utterance: Utterance, wave: Floats
    ) -> float | None:
        """Whether one voice speaks from beginning to end; None when there is too little of it."""
        first, last = (round(s * SAMPLE_RATE_HZ) for s in (utterance.speech_start_s, utterance.speech_end_s))
        cosine = consistency.score(speaker, wave[first:last])
        return None if cosine is None else self.weights.consistency.llr(cosine)
