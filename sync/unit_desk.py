"""What a unit's sync process obeys. Voiceprints and rules are the door process's, out of reach here."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from sync.agent import Agent
from sync.command_desk import CommandDesk, CommandFailedError, CommandLedger
from sync.commands import Arguments, Result
from sync.events import MAX_SEQUENCE, AuditEvent
from sync.outbox import Outbox
from sync.unit_events import unit_event


def unit_desk(
    agent: Agent,
    outbox: Outbox,
    command_key: ec.EllipticCurvePublicKey,
    ledger: Path,
    door: str,
    keystore: str,
) -> CommandDesk:
    """The desk of `agent`. `ledger` is its file beside the audit log; the agent's key signs answers."""

    def report_health(_: Arguments) -> None:
        agent.report_now()

    def resend(arguments: Arguments) -> None:
        after = arguments.get("after")
        if type(after) is not int or not 0 <= after <= MAX_SEQUENCE:
            raise CommandFailedError("bad_arguments")
        if not agent.resend_after(after):
            raise CommandFailedError("not_held")

    def note(result: Result) -> None:
        # Low risk: a full log counts it as overflow, and keeps no command from its answer.
        outbox.append(command_event(outbox, result, door, keystore), risk="low")

    return CommandDesk(
        agent.log.unit,
        command_key,
        agent.signer,
        CommandLedger(ledger),
        agent.time_ms,
        handlers={"report_health": report_health, "resend": resend},
        note=note,
    )


def command_event(outbox: Outbox, result: Result, door: str, keystore: str) -> AuditEvent:
    """What became of a command is itself an event in the chain; `count` is the command's counter."""
    kind = "COMMAND_APPLIED" if result.status == "done" else "COMMAND_REFUSED"
    words = {"done": "on_request", "failed": "command_failed", "interrupted": "command_interrupted"}
    stale = result.why in ("expired", "future")
    reason = words.get(result.status, "command_expired" if stale else "command_unknown")
    return unit_event(
        outbox, kind, reason, door=door, time_ms=result.time_ms, keystore=keystore, count=result.counter
    )
