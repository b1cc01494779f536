"""Commands to a unit: signed by the registry, counted, expiring; obeyed once, in order, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.errors import MalformedError, ProofError, SyncError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId, decode_map, unit_id

COMMAND_TYPE = "application/ostiary-command+cbor"
MAX_LIFE_MS = 24 * 3600 * 1000
CLOCK_TOLERANCE_MS = 60_000
ACTIONS = frozenset(
    {
        "report_health",
        "apply_policy",
        "apply_models",
        "lock_down",
        "end_lock_down",
        "forget_person",
        "rotate_keys",
    }
)
_NAME = re.compile(r"[a-z_]{1,32}")

Arguments = Mapping[str, str | int | bytes]


@dataclass(frozen=True, slots=True)
class Command:
    """One order to one unit. `counter` only goes up per unit, so nothing can be played back."""

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
        if self.action not in ACTIONS:
            raise MalformedError("a command with an unknown action")
        for name, value in self.arguments.items():
            if type(name) is not str or not _NAME.fullmatch(name) or type(value) not in (str, int, bytes):
                raise MalformedError("a command has a mistyped argument")

    def signed(self, signer: Signer) -> bytes:
        return cose.sign1(self._to_bytes(), signer, COMMAND_TYPE)

    def _to_bytes(self) -> bytes:
        values = (
            1,
            self.unit,
            self.counter,
            self.issued_ms,
            self.expires_ms,
            self.action,
            dict(self.arguments),
        )
        return cbor2.dumps(dict(enumerate(values)), canonical=True)


def open_command(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId, now_ms: int) -> Command:
    """A command for `unit` that is signed and in force. Raises MalformedError or ProofError.

    Whether it was obeyed before is the ledger's question.
    """
    fields = decode_map(cose.open1(message, key, COMMAND_TYPE))
    if list(fields) != list(range(7)) or fields[0] != 1 or not isinstance(fields[6], Mapping):
        raise MalformedError("a command of an unknown form")
    command = Command(unit_id(fields[1]), fields[2], fields[3], fields[4], fields[5], dict(fields[6]))
    if command.unit != unit:
        raise ProofError("a command for another unit")
    if now_ms >= command.expires_ms:
        raise ProofError("a command that has expired")
    if command.issued_ms > now_ms + CLOCK_TOLERANCE_MS:
        raise ProofError("a command from the future")
    return command


class CommandLedger:
    """The last counter obeyed, on the disk before anything is done about it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> int:
        try:
            return int(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as err:
            raise SyncError(
                f"{self._path.name} is damaged: no command is obeyed until it is restored"
            ) from err

    def take(self, command: Command) -> None:
        """Claim a command: it can never be claimed again. Raises ProofError when its turn has passed."""
        if command.counter <= self.last():
            raise ProofError("a command that was obeyed before, or overtaken")
        draft = self._path.with_name(self._path.name + ".new")
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(str(command.counter))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as err:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise SyncError(f"the command could not be noted ({err}), so it is not obeyed") from err


@dataclass(frozen=True, slots=True)
class CommandDesk:
    """`sync.agent.Agent.command`: checks, claims, then hands over to the handler of its action."""

    unit: UnitId
    registry_key: ec.EllipticCurvePublicKey
    ledger: CommandLedger
    now_ms: Callable[[], int]
    handlers: Mapping[str, Callable[[Arguments], None]]

    def __call__(self, message: bytes) -> None:
        command = open_command(message, self.registry_key, self.unit, self.now_ms())
        handler = self.handlers.get(command.action)
        if handler is None:
            raise SyncError("this unit does not know how to obey that")
        self.ledger.take(command)
        handler(command.arguments)
