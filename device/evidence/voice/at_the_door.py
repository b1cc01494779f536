"""Which vector of a voiceprint an attempt is held against: the one as enrolled, or the door vector.

In a lively room a voice is no longer what it was at the desk. There the door vector counts, with a
calibration of its own. Where it is dry, in noise (which has a hearing of its own, `in_noise`), and for a
voiceprint without one, nothing is different from before (docs/adr/0066).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Quality
from device.evidence.voice import in_noise
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, Speaker
from device.evidence.voice.phrases import shift_of, shifted
from device.model_store.calibration import LLR_LIMIT

Embedding = npt.NDArray[np.float32]
Compare = Callable[[Embedding, Embedding], float]

LIVELY_DB_S = 200.0
"""Three quarters of all recordings at a desk die away faster, nineteen of twenty in rooms more slowly."""
DOOR_LLR = -0.7
"""Added where the door vector counts: strangers are more like it, too."""


def at_the_door(speaker: Speaker, quality: Quality) -> bool:
    """Whether the door vector counts, where there is one; what cannot be measured counts as a desk."""
    lively = quality.decay_db_s < LIVELY_DB_S
    return lively and speaker.version == FITTED_ON and not in_noise.in_noise(speaker, quality)


def llr(speaker: Speaker, quality: Quality, probe: Embedding, voice: Voice) -> float:
    """The LLR of `probe`, which was heard at that quality. What is not a number stays none."""
    desk, at_door = compared(speaker, quality)
    shift = shift_of(speaker.version, voice.phrases)
    if voice.door is None or at_door is None:
        return shifted(desk(probe, voice.vector), shift.enrolled)
    return shifted(at_door(probe, voice.door), shift.door)


def compared(speaker: Speaker, quality: Quality) -> tuple[Compare, Compare | None]:
    """(with a vector as enrolled, with a door vector); None where no door vector counts."""

    def desk(probe: Embedding, vector: Embedding) -> float:
        return in_noise.llr(speaker, quality, probe, vector)

    def door(probe: Embedding, vector: Embedding) -> float:
        found = speaker.llr(probe, vector) + DOOR_LLR
        return min(LLR_LIMIT, max(-LLR_LIMIT, found)) if not math.isnan(found) else found

    return desk, door if at_the_door(speaker, quality) else None
