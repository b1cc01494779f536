"""What was measured as the door's evidence: enrolled, compared and weighed by the door's own code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from device.audio import Flaw, QualityError
from device.audio.utterance import Quality
from device.evidence import clicked, conditioned
from device.evidence.enrolled import Voices
from device.evidence.judge import Evidence, Timings
from device.evidence.second_hearing import ASKED_BELOW_LLR, asked, both
from device.evidence.voice import at_the_door
from device.evidence.voice.held import Voice
from device.liveness import NO_CONTEXT_EVIDENCE, ContextEvidence, context
from device.model_store.calibration import LLR_LIMIT
from device.models.speaker import InconsistentEnrolmentError
from device.models.spoof.detector import SpoofScores
from quantize.evaluate.door.heard import CONDITIONS
from quantize.evaluate.door.measure import Ask, Checks, Measured
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import ENROLMENT_FILES

Heard = Evidence | Exception


def enrolled_as_at_a_door(
    enrolments: Mapping[str, Sequence[Recording]], found: Mapping[Ask, Measured], checks: Checks
) -> dict[str, Voice]:
    """As enrolment makes them. Whose first three recordings cannot be judged or do not fit together is asked
    to record again, and takes no part; of the further ones those count that fit."""
    templates = {}
    for who, files in enrolments.items():
        heard = [found[Ask(r, CONDITIONS[0], live=False)] for r in files]
        first, more = heard[:ENROLMENT_FILES], heard[ENROLMENT_FILES:]
        if len(first) < ENROLMENT_FILES or any(one.embedding is None for one in first):
            continue
        with suppress(InconsistentEnrolmentError):
            templates[who] = _voice(first, checks)
            for one in more:
                if one.embedding is not None and (voice := _with(first, one, checks)) is not None:
                    templates[who] = voice
                    first = [*first, one]
    return templates


def _voice(heard: Sequence[Measured], checks: Checks) -> Voice:
    """Raises InconsistentEnrolmentError."""
    voices = Voices(
        embeddings=[one.embedding for one in heard if one.embedding is not None],
        copies=[one.copies for one in heard if one.copies is not None],
    )
    return voices.voice(checks.speaker)


def _with(heard: Sequence[Measured], one: Measured, checks: Checks) -> Voice | None:
    """None where `one` does not fit the others."""
    with suppress(InconsistentEnrolmentError):
        return _voice([*heard, one], checks)
    return None


def voice_llr(measured: Measured, quality: Quality, checks: Checks, held: Voice | None) -> float | None:
    if measured.embedding is None or held is None:
        return None
    return at_the_door.llr(checks.speaker, quality, measured.embedding, held)


def evidence_of(measured: Measured, checks: Checks, template: Voice | None) -> Heard:
    if measured.refused or measured.quality is None:
        flaw = Flaw(measured.refused) if measured.refused in list(Flaw) else Flaw.OTHER
        return QualityError(flaw, measured.complaint)
    phrase = measured.phrase
    voice = voice_llr(measured, measured.quality, checks, template)
    live = checks.spoof.weighed(measured.live) if measured.live else None
    place = conditioned.shipped()
    live_llr = _placed(measured.live, measured.quality, checks)
    suspect = live_llr < clicked.ASKED_BELOW_LLR
    quality = replace(measured.quality, filled=measured.quality.filled or (suspect and measured.broken))
    if phrase is not None and measured.again is not None and asked(phrase.llr):
        phrase = both(phrase, measured.again)
    short = phrase is not None and phrase.llr < ASKED_BELOW_LLR
    return Evidence(
        phrase_llr=math.nan if phrase is None else phrase.llr,
        speaker_llr=voice,
        spoof_llr=live_llr,
        transcript="" if phrase is None else phrase.transcript,
        quality=quality,
        timings=Timings(0.0, 0.0, 0.0, 0.0),
        context=_context(measured, checks),
        unclicked_llr=_unclicked_llr(measured, checks) if suspect else None,
        coughs=measured.coughs if short else 0,
        live_kinds={} if live is None else live.kinds(),
        operating_points=place.points(checks.spoof.version, checks.spoof.operating_points),
    )


def _placed(scores: Sequence[SpoofScores], quality: Quality, checks: Checks) -> float:
    if not scores:
        return math.nan
    return conditioned.shipped().llr(checks.spoof.version, checks.spoof.weighed(scores).llr, quality)


def _unclicked_llr(measured: Measured, checks: Checks) -> float | None:
    if measured.even_clicks:
        return LLR_LIMIT
    if not measured.unclicked or measured.quality is None:
        return None
    return _placed(measured.unclicked, measured.quality, checks)


def _context(measured: Measured, checks: Checks) -> ContextEvidence:
    """The evidence for joins, as the door's context check has it; nobody was heard before."""
    if checks.context is None or measured.joins is None:
        return NO_CONTEXT_EVIDENCE
    joins = checks.context.weights.joins
    llr = joins.llr(measured.joins)
    uncoughed = measured.uncoughed if llr < context.ASKED_BELOW_LLR else None
    return ContextEvidence(joins_llr=llr, uncoughed_llr=None if uncoughed is None else joins.llr(uncoughed))
