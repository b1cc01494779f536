"""Who is refused for their voice three times in a week is asked to enrol again, once they are in.

Only then: to tell it after a refusal would tell somebody with a found badge that words and liveness passed,
and that the voice alone is what they lack.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from device.access.decision import Decision, Factor, Outcome, Reason
from device.access.memory.voice_refusals import OFTEN
from device.errors import DeviceError
from device.unit.assembly import Unit
from sync.errors import SyncError
from sync.plain_words import what_and_why

DAY_S = 86_400
KIND = "VOICE_OFTEN_REFUSED"

log = logging.getLogger(__name__)


def asked_to_enrol(unit: Unit, decision: Decision) -> Decision:
    """`decision`, which also asks the person to enrol again where their voice was often refused; a refusal
    is counted. Call it once the decision is in the log. Logs every error and raises none."""
    try:
        return _asked(unit, decision)
    except (DeviceError, SyncError, OSError) as err:
        log.warning("who should enrol again could not be kept: %s", what_and_why(err))
        return decision


def of_the_voice_alone(decision: Decision) -> bool:
    """Whether words and liveness were asked and passed, and only the voice was refused."""
    failed = {finding.factor for finding in decision.findings if not finding.passed}
    return (
        decision.outcome is Outcome.DENIED_VOICE
        and decision.code is Reason.OTHER_VOICE
        and {finding.factor for finding in decision.findings} >= {Factor.PHRASE, Factor.VOICE, Factor.LIVE}
        and failed == {Factor.VOICE}
    )


def _asked(unit: Unit, decision: Decision) -> Decision:
    refused = of_the_voice_alone(decision)
    if decision.person is None or not (refused or decision.opens):
        return decision
    day = today(unit)
    enrolment = unit.store.vault.version(decision.person)
    if decision.opens:
        again = unit.controller.should_enrol_again(decision.person, enrolment, day)
        return replace(decision, enrol_again=again)
    if unit.controller.voice_refused(decision.person, enrolment, day):
        unit.trail.note(KIND, "enrol_again", decision.door, uid=decision.person, count=OFTEN, risk="low")
    return decision


def today(unit: Unit) -> int:
    """The UTC day since 1970, by the highest time seen: a clock that was set back repeats none."""
    return int(unit.controller.time.seen.time(unit.clock().wall).timestamp()) // DAY_S
