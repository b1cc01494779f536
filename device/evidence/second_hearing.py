"""Words that a small model could not make out are heard once more, by a larger one (docs/adr/0060). Pure.

Only what would be refused, or asked for once more, for its words alone is heard twice: whoever gets in at
once waits no longer, and nothing is spent where voice or liveness refuse anyway. Both hearings make one LLR.
"""

from __future__ import annotations

import math
from dataclasses import replace

from device.evidence.phrase import PhraseScore, agreement, normalise
from device.evidence.wordlists import duress_words
from device.model_store.calibration import LLR_LIMIT

FITTED_ON = ("whisper-tiny.en-int8-b36e6568", "whisper-base-int8-fcfc7f7f")
"""Versions of the two words models, the usual one first, whose scores the weights below are for."""
ASKED_BELOW_LLR = 2.0
"""What passes at the lowest threshold of all security levels needs no second hearing."""
ASKED_ABOVE_LLR = -3.0
"""Where the first is surer than that of other words, it is left at that."""
LEAST_VOICE_LLR, LEAST_LIVE_LLR = 0.0, -2.0
"""Below these no level opens, nor asks for one more phrase, whatever the words are."""
LEAST_SHARED = 0.3
"""Of the phrase, in what the second hearing made of it: less, and it has heard something else, or nothing."""
FIRST, SECOND, OFFSET = 0.175, 0.726, 0.286
"""Weights of the two LLRs where the first doubts: `python -m research.fits.second_hearing fit`."""


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


def both(first: PhraseScore, second: PhraseScore, phrase: str) -> PhraseScore:
    """One calibrated LLR that `phrase` was said, of two hearings. What is not a number stays none.

    A second hearing that made hardly anything of the phrase leaves the first as it is. A silent alarm that
    either would raise is raised: of two transcripts the one with a word that may be a duress word is kept.
    """
    if not (math.isfinite(first.llr) and math.isfinite(second.llr)):
        return PhraseScore(math.nan, first.transcript)
    alarms = [{*normalise(one.transcript)} & {*duress_words()} for one in (first, second)]
    if agreement(second.transcript, phrase) < LEAST_SHARED:
        return replace(first, transcript=second.transcript) if alarms[1] - alarms[0] else first
    llr = FIRST * first.llr + SECOND * second.llr + OFFSET
    kept = first if alarms[0] - alarms[1] else second
    return PhraseScore(max(-LLR_LIMIT, min(LLR_LIMIT, llr)), kept.transcript)
