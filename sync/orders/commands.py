"""Commands to a unit and its answers: signed and counted, so neither can be forged or replayed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId

COMMAND_TYPE = "application/ostiary-command+cbor"
RESULT_TYPE = "application/ostiary-result+cbor"
MAX_LIFE_MS = 24 * 3600 * 1000
MAX_ARGUMENT_BYTES = 2048
CLOCK_TOLERANCE_MS = 60_000
ACTIONS = frozenset(
    {
        "report_health",
        "resend",
        "apply_policy",
        "apply_models",
        "apply_threats",
        "lock_down",
        "end_lock_down",
        "forget_person",
        "rotate_keys",
        "hold_open",
        "end_hold",
        "limit_visit",
        "lift_visit",
    }
)
NUMBERS = frozenset({"after", "begins_ms", "ends_ms", "first_person", "on_holidays"})
"""Arguments that are whole numbers; everything else is text, an id of digits too."""
_NAME = re.compile(r"[a-z_]{1,32}")

Arguments = Mapping[str, str | int | bytes]

Status = Literal["done", "refused", "failed", "interrupted"]
"""`interrupted`: the unit was killed between taking the command and answering, and does not try again."""
Why = Literal[
    "none",
    "expired",
    "future",
    "unknown_action",
    "bad_arguments",
    "not_held",
    "door_refused",
    "fault",
    "killed",
]


class StaleCommandError(ProofError):
    """A genuine command outside its time. `why` goes into the unit's answer."""

    def __init__(self, command: Command, why: Why) -> None:
        super().__init__("a command that has expired" if why == "expired" else "a command from the future")
        self.command = command
        self.why: Why = why


@dataclass(frozen=True, slots=True)
class Command:
    """One order to one unit. `counter` only rises, so that none can be replayed."""

    unit: UnitId
    counter: int
    issued_ms: int
    expires_ms: int
    action: str
    arguments: Arguments = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.counter) is not int or not 1 <= self.counter <= MAX_SEQUENCE:
            raise MalformedError("a command's counter starts at 1")
        times = (self.issued_ms, self.expires_ms)
        if any(type(t) is not int or not 0 <= t <= MAX_TIME_MS for t in times):
            raise MalformedError("a command has a time out of range")
        if not 0 < self.expires_ms - self.issued_ms <= MAX_LIFE_MS:
            raise MalformedError("a command lives up to a day")
        if type(self.action) is not str or self.action not in ACTIONS:
            raise MalformedError("a command with an unknown action")
        for name, value in self.arguments.items():
            if type(name) is not str or not _NAME.fullmatch(name) or type(value) not in (str, int, bytes):
                raise MalformedError("a command has a mistyped argument")
        if any(type(value) is int and abs(value) > MAX_SEQUENCE for value in self.arguments.values()):
            raise MalformedError("a command has an argument out of range")
        if len(cbor2.dumps(dict(self.arguments))) > MAX_ARGUMENT_BYTES:
            raise MalformedError(f"a command's arguments take at most {MAX_ARGUMENT_BYTES} bytes")

    def signed(self, signer: Signer) -> bytes:
        told = (self.counter, self.issued_ms, self.expires_ms, self.action, dict(self.arguments))
        return cose.sign_fields(signer, COMMAND_TYPE, self.unit, *told)


def open_command(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId, now_ms: int) -> Command:
    """A command for `unit` that is signed and in force.

    Raises MalformedError, ProofError, or StaleCommandError. The ledger knows whether it was obeyed before.
    """
    # 1. By the key that may command, in the one encoding, of the one type, and for this unit.
    command = Command(unit, *cose.open_fields(message, key, COMMAND_TYPE, "iiism", unit, "a command"))
    # 2. In its time, by our clock.
    if now_ms >= command.expires_ms:
        raise StaleCommandError(command, "expired")
    if command.issued_ms > now_ms + CLOCK_TOLERANCE_MS:
        raise StaleCommandError(command, "future")
    return command


@dataclass(frozen=True, slots=True)
class Result:
    """What a unit did about command `counter`, in words of a list."""

    unit: UnitId
    counter: int
    status: Status
    why: Why
    time_ms: int

    def signed(self, signer: Signer) -> bytes:
        told = (self.counter, self.status, self.why, self.time_ms)
        return cose.sign_fields(signer, RESULT_TYPE, self.unit, *told)


def open_result(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> Result:
    """A result that `unit` signed. Raises MalformedError or ProofError."""
    counter, status, why, time_ms = cose.open_fields(message, key, RESULT_TYPE, "issi", unit, "a result")
    if status not in get_args(Status) or why not in get_args(Why):
        raise MalformedError("a result with an unknown word")
    if not 0 <= counter <= MAX_SEQUENCE or not 0 <= time_ms <= MAX_TIME_MS:
        raise MalformedError("a result has a number out of range")
    return Result(unit, counter, status, why, time_ms)
