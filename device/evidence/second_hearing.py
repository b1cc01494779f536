"""Words that a small model could not make out are heard once more, by a larger one (docs/adr/0060). Pure.

Only what would be refused, or asked for once more, for its words alone is heard twice: whoever gets in at
once waits no longer, and nothing is spent where voice or liveness refuse anyway. Both hearings make one LLR.
"""

from __future__ import annotations

import math

from device.evidence.phrase import PhraseScore, normalise
from device.evidence.wordlists import duress_words
from device.model_store.calibration import LLR_LIMIT

FITTED_ON = ("whisper-tiny.en-int8-b36e6568", "whisper-base-int8-fcfc7f7f")
"""Versions of the two words models, the usual one first, whose scores the weights below are for."""
ASKED_BELOW_LLR = 2.0
"""What passes at the lowest threshold of all security levels needs no second hearing."""
ASKED_ABOVE_LLR = -8.0
"""Lower first scores were no right phrases, whatever the second hearing made of them."""
LEAST_VOICE_LLR, LEAST_LIVE_LLR = 0.0, -2.0
"""Below these no level opens, nor asks for one more phrase, whatever the words are."""
FIRST, SECOND, OFFSET = 0.5, 0.5, 0.0


def fits(first: str, second: str) -> bool:
    """Whether these are the models that the weights were fitted on; others are not heard together."""
    return (first, second) == FITTED_ON


def asked(phrase_llr: float, speaker_llr: float | None, spoof_llr: float) -> bool:
    """Whether words may be all that keeps the door shut. `speaker_llr` is None where no voice was compared.

    What is not a number asks for nothing.
    """
    return (
        ASKED_ABOVE_LLR <= phrase_llr < ASKED_BELOW_LLR
        and (speaker_llr is None or speaker_llr >= LEAST_VOICE_LLR)
        and spoof_llr >= LEAST_LIVE_LLR
    )


def both(first: PhraseScore, second: PhraseScore) -> PhraseScore:
    """One calibrated LLR that the phrase was said, of two hearings of it. What is not a number stays none.

    The transcript is the second's, unless only the first heard a word that may be a duress word: a silent
    alarm that either hearing would raise is raised.
    """
    llr = FIRST * first.llr + SECOND * second.llr + OFFSET
    bounded = max(-LLR_LIMIT, min(LLR_LIMIT, llr)) if math.isfinite(llr) else math.nan
    lost = {*normalise(first.transcript)} & {*duress_words()} - {*normalise(second.transcript)}
    return PhraseScore(bounded, first.transcript if lost else second.transcript)
