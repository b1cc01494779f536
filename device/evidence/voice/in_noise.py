"""Whose voice it is where others talk: the voice check hears what stands out of the noise (docs/adr/0057).

Between its words a noisy utterance holds the surroundings alone, and a voice check that hears them finds less
of the person in it. Where it is quiet all of it is heard: soft sounds are the person's, too.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.standing_out import standing_out
from device.audio.utterance import Quality
from device.model_store.calibration import LLR_LIMIT

Wave = npt.NDArray[np.float32]
Embedding = npt.NDArray[np.float32]

FITTED_ON = "campplus-int8-f0982ceb"
"""The version of the only speaker model that hears so; another one hears everything."""
NOISY_SNR_DB = 22.0
GIVEN_BACK_LLR = 0.5
"""Less sound lowers everybody's score: with so much more as many strangers pass as did before."""


class Speaker(Protocol):
    """A speaker model, as far as it is needed here."""

    version: str

    def embed(self, wave: Wave) -> Embedding: ...

    def llr(self, probe: Embedding, template: Embedding) -> float: ...


def in_noise(speaker: Speaker, quality: Quality) -> bool:
    """Whether only what stands out is heard; an unknown ratio counts as quiet."""
    return speaker.version == FITTED_ON and quality.snr_db < NOISY_SNR_DB


def heard(speaker: Speaker, quality: Quality, wave: Wave) -> Embedding:
    """The embedding of what is said in `wave` (n,). Raises what `speaker` raises."""
    if not in_noise(speaker, quality):
        return speaker.embed(wave)
    loud = standing_out(wave)
    try:
        return speaker.embed(loud)
    finally:
        if loud is not wave:
            loud[:] = 0.0


def llr(speaker: Speaker, quality: Quality, probe: Embedding, template: Embedding) -> float:
    """The LLR of `probe`, which was `heard` at that quality. What is not a number stays none."""
    found = speaker.llr(probe, template)
    if not in_noise(speaker, quality):
        return found
    found += GIVEN_BACK_LLR
    return LLR_LIMIT if found > LLR_LIMIT else found
