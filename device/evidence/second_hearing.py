"""Has words that a small model could not make out heard once more, by a larger one (docs/adr/0060). Pure.

Only words that would be refused, or asked for once more, are heard twice: a person who gets in at once waits
no longer. Both hearings make one LLR.
"""

from __future__ import annotations

import math
from dataclasses import replace

from device.evidence.phrase import PhraseScore, normalise
from device.evidence.wordlists import duress_words
from device.model_store.calibration import LLR_LIMIT

FITTED_ON = ("whisper-tiny.en-int8-b36e6568", "whisper-base-int8-ebd33144")
"""Versions of the two words models, the usual one first, whose scores the weights below are for."""
WITHOUT_GERMAN = "whisper-base-int8-fcfc7f7f"
"""The second before it could be told to hear German. In English it hears the same: LLRs within 0.0001."""
ASKED_BELOW_LLR = 2.0
"""What passes at the lowest threshold of all security levels needs no second hearing."""
ASKED_ABOVE_LLR = -3.0
"""Where the first is surer than that of other words, it is left at that."""
LEAST_AGREEMENT = 0.3
"""Of the phrase's own words in what the second heard: less, and it heard something else, or nothing."""
FIRST, SECOND, OFFSET = 0.175, 0.726, 0.286
"""Weights of the two LLRs where the first doubts: `python -m research.fits.second_hearing fit`."""


def fits(first: str, second: str) -> bool:
    """Whether these are the models that the weights were fitted on; others are not heard together."""
    return first == FITTED_ON[0] and second in (FITTED_ON[1], WITHOUT_GERMAN)


def asked(first_llr: float) -> bool:
    """Whether words of that LLR are heard once more; NaN asks for nothing. Voice and liveness have no say:
    a refusal that takes longer where they passed would tell an attacker so."""
    return ASKED_ABOVE_LLR <= first_llr < ASKED_BELOW_LLR


def both(first: PhraseScore, second: PhraseScore) -> PhraseScore:
    """One calibrated LLR that the phrase was said, of two hearings. What is not a number stays none. A
    second hearing that made hardly anything of the phrase leaves the first as it is. A silent alarm of
    either is raised: the transcript that is kept gets each possible duress word that it lacks."""
    weak = second.agreement < LEAST_AGREEMENT
    if not (math.isfinite(first.llr) and math.isfinite(second.llr)):
        llr = math.nan
    elif weak:
        llr = first.llr
    else:
        llr = max(-LLR_LIMIT, min(LLR_LIMIT, FIRST * first.llr + SECOND * second.llr + OFFSET))
    alarms = [{*normalise(one.transcript)} & {*duress_words()} for one in (first, second)]
    kept, own = (first, alarms[0]) if weak or alarms[0] - alarms[1] else (second, alarms[1])
    lacking = sorted(alarms[1] - own)
    return replace(kept, llr=llr, transcript=" ".join((kept.transcript, *lacking)).strip())
