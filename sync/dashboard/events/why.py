"""Explains a decision in words: each factor against its threshold, and which one decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync.dashboard.site.places import Place
from sync.dashboard.wording import words
from sync.dashboard.wording.languages import decimal, word
from sync.events import AuditEvent
from sync.vocabulary import DECISIONS

MORE: Mapping[str, tuple[str, str]] = {
    "second_speaker_llr": ("A second speaker", "LLR; above zero: somebody else spoke too"),
    "phrase_before_llr": ("The phrase before", "LLR of the first phrase, when a second one was asked for"),
    "replay_llr": ("Through a loudspeaker", "LLR, as the network hears it"),
    "synthetic_llr": ("Synthetic", "LLR, as the network hears it"),
    "envelopes_llr": ("Envelopes", "LLR; how the bands of the sound move together"),
    "cadence_llr": ("Frame rate", "LLR; whether a machine's frames can be heard"),
    "loudspeaker_llr": ("Loudspeaker", "LLR; what a loudspeaker leaves behind"),
    "frame_rate_hz": ("Frame rate", "Hz; the beat that was found"),
    "reuse_llr": ("Heard before", "LLR; above the limit: this recording was used before"),
    "timing_llr": ("Timing", "LLR; whether people answer at such a moment"),
    "consistency_llr": ("One voice throughout", "LLR; whether the voice stayed the same"),
    "joins_llr": ("Joins", "LLR; whether it was said in one go and not pasted together"),
    "surroundings_llr": ("Surroundings", "LLR; whether it sounded like this door"),
    "reused_share": ("Reused share", "how much of the utterance was heard before"),
    "reuse_sources": ("Reused from", "how many earlier utterances it was made of"),
    "campaign": ("Campaign", "number of the known attack that it resembled"),
    "campaign_likeness": ("Likeness", "to that attack; from -1 to 1"),
    "snr_db": ("Above the noise", "dB"),
    "speech_s": ("Speech", "seconds"),
}
ASKED = (
    ("Words", "Were they the words on the display?"),
    ("Voice", "Was it the voice of the person claimed?"),
    ("Live", "Was it a live human and no machine?"),
)
VERDICTS = (
    "This check was not made, or was not needed.", "Clearly passed.", "Passed, but not by much.",
    "Fell just short.", "Clearly failed.",
)  # fmt: skip
WEAKEST = "{0} The weakest: {1}, {2} above what was needed."
SHORT = "{0} {1}: {2} short of what was needed."
PASSED = "Passed: {0}."


@dataclass(frozen=True, slots=True)
class Factor:
    """One of the three pieces of evidence. LLRs are natural-log; None: the check was not made."""

    name: str
    question: str
    llr: float | None
    needed: float
    verdict: str

    @property
    def passed(self) -> bool | None:
        return None if self.llr is None else self.llr >= self.needed


@dataclass(frozen=True, slots=True)
class Told:
    """What a page says about one event."""

    sentence: str
    factors: tuple[Factor, ...]
    more: tuple[tuple[str, str, str], ...]
    """Further findings: name, value, what it means."""


def explain(event: AuditEvent, place: Place) -> Told:
    """`place` has the thresholds of the door's rule."""
    factors: tuple[Factor, ...] = ()
    if event.kind in DECISIONS and any(score is not None for score in event.scores().values()):
        scores = (
            (event.phrase_llr, place.phrase_llr),
            (event.speaker_llr, place.voice_llr),
            (event.spoof_llr, place.live_llr),
        )
        asked = [(*texts, *pair) for texts, pair in zip(ASKED, scores, strict=True)]
        factors = tuple(
            Factor(word(name), word(question), llr, needed, word(_verdict(llr, needed)))
            for name, question, llr, needed in asked
        )
    return Told(_sentence(event, factors), factors, tuple(_more(*score) for score in event.more_scores))


def _more(name: str, value: float) -> tuple[str, str, str]:
    title, meaning = MORE.get(name, (name, ""))
    return word(title), decimal(f"{value:.2f}".rstrip("0").rstrip(".")), word(meaning)


def _verdict(llr: float | None, needed: float) -> str:
    if llr is None:
        return VERDICTS[0]
    gap = llr - needed
    if gap >= 3:
        return VERDICTS[1]
    if gap >= 0:
        return VERDICTS[2]
    if gap > -2:
        return VERDICTS[3]
    return VERDICTS[4]


def _sentence(event: AuditEvent, factors: tuple[Factor, ...]) -> str:
    reason = words.reason(event.reason)
    failed = [factor for factor in factors if factor.passed is False]
    if event.kind == "GRANTED" and factors and not failed:
        weakest = min(
            (f for f in factors if f.llr is not None), key=lambda f: (f.llr or 0) - f.needed, default=None
        )
        if weakest is None:
            return reason
        margin = (weakest.llr or 0) - weakest.needed
        return word(WEAKEST).format(reason, weakest.name, decimal(f"{margin:.1f}"))
    if not failed or event.kind == "GRANTED":
        return reason
    worst = min(failed, key=lambda f: (f.llr or 0) - f.needed)
    short = worst.needed - (worst.llr or 0)
    passed = [f.name for f in factors if f.passed]
    text = word(SHORT).format(reason, worst.name, decimal(f"{short:.1f}"))
    return f"{text} {word(PASSED).format(', '.join(passed))}" if passed else text
