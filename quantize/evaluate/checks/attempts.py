"""Attempts of up to two phrases: a weak phrase is followed by one more, and the words of both count.

Every ordered pair of two recordings of one speaker is an attempt whose voice and liveness pass. The policy of
the door decides on each. LLRs of further wrong pairings are not used: most of them are bounds only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from device.access.decision import Outcome
from device.access.policy import Thresholds, counts_on, decide
from device.audio.utterance import Quality
from device.evidence.judge import Evidence, Timings
from quantize.evaluate.checks.phrase import PhraseScores, Rate, rate
from quantize.evaluate.recordings.trials import PhraseTrial

STEP_UP_MARGIN_LLR = 2.0
"""As in the example of a rules file: a phrase at most so far below the threshold is followed by another."""
OPENED_AT_ONCE = "right phrase, opened at once"
OPENED = "right phrases, opened after at most two"
ASKED_AGAIN = "right phrase, asked for one more"
NEAR_OPENED = "one word wrong in each, opened after at most two"
WRONG_OPENED = "another phrase in each, opened after at most two"


def attempts(
    views: Mapping[str, Sequence[PhraseTrial]], scores: Mapping[str, PhraseScores], threshold_llr: float
) -> dict[str, dict[str, Rate]]:
    """By what was counted, by view: opened or asked again, of so many attempts; intervals by speaker."""
    limits = Thresholds(phrase_llr=threshold_llr, step_up_margin_llr=STEP_UP_MARGIN_LLR)
    found: dict[str, dict[str, Rate]] = {}
    for view, members in views.items():
        speakers: dict[object, list[PhraseScores]] = {}
        for trial in members:
            speakers.setdefault(trial.recording.unit, []).append(scores[trial.recording.path])
        counted: dict[str, dict[object, list[bool]]] = {}
        for speaker, said in speakers.items():
            for at, one in enumerate(said):
                others = [other for place, other in enumerate(said) if place != at]
                if not others:
                    continue
                asked, opened = _attempts(one.right_llr, [other.right_llr for other in others], limits)
                at_once = one.right_llr >= threshold_llr
                counted.setdefault(OPENED_AT_ONCE, {}).setdefault(speaker, []).append(at_once)
                counted.setdefault(ASKED_AGAIN, {}).setdefault(speaker, []).append(asked)
                counted.setdefault(OPENED, {}).setdefault(speaker, []).extend(opened)
                wrong = _attempts(one.wrong_llr, [other.wrong_llr for other in others], limits)[1]
                counted.setdefault(WRONG_OPENED, {}).setdefault(speaker, []).extend(wrong)
                later = [llr for other in others for llr in other.near_llrs]
                for llr in one.near_llrs:
                    opened = _attempts(llr, later, limits)[1]
                    counted.setdefault(NEAR_OPENED, {}).setdefault(speaker, []).extend(opened)
        for title, by_speaker in counted.items():
            found.setdefault(title, {})[view] = rate(list(by_speaker), list(by_speaker.values()))
    return found


def _attempts(first_llr: float, second_llrs: Sequence[float], limits: Thresholds) -> tuple[bool, list[bool]]:
    """Whether a first phrase leads to one more, and for each second one whether the door opens."""
    first = decide(_heard(first_llr), limits)
    if first.outcome is not Outcome.STEP_UP:
        return False, [first.opens] * len(second_llrs)
    before_llr = counts_on(first)
    return True, [decide(_heard(llr), limits, before_llr=before_llr).opens for llr in second_llrs]


def _heard(phrase_llr: float) -> Evidence:
    """Evidence of the words alone; everything else that a door asks for passes."""
    quality = Quality(speech_s=3.0, snr_db=30.0, clipped_fraction=0.0, level_dbfs=-20.0, bandwidth_hz=8_000.0)
    return Evidence(phrase_llr, 99.0, 99.0, "", quality, Timings(0.0, 0.0, 0.0, 0.0))
