"""Obeys commands on a unit: each at most once, in order, and answered, also after a crash.

The ledger notes a command on the disk *before* its handler runs and the signed answer after. A unit that was
killed between the two does not try again: it answers `interrupted`, and a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync.cbor import decode
from sync.durable import replace_file
from sync.errors import ProofError, SyncError
from sync.events import MAX_SEQUENCE, Signer, UnitId
from sync.orders.commands import Arguments, Command, Result, StaleCommandError, Status, Why, open_command
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

MAX_LEDGER_BYTES = 8192

Handler = Callable[[Arguments], None]
"""Obeys a command, or raises CommandFailedError."""
Note = Callable[[Result], None]
"""Writes into the unit's own audit log what became of a command."""


class CommandFailedError(SyncError):
    """A command could not be obeyed; the registry is told `why`."""

    def __init__(self, why: Why) -> None:
        super().__init__(f"a command could not be obeyed: {why}")
        self.why: Why = why


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest command that was taken. `answer` is None until it has one."""

    counter: int = 0
    answer: bytes | None = None


class CommandLedger:
    """One small file, replaced atomically. Every change is on the disk before the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entry: Entry | None = None

    def last(self) -> Entry:
        """The newest entry. Raises SyncError when the file is damaged: then nothing is obeyed."""
        if self._entry is None:
            self._entry = self._read()
        return self._entry

    def take(self, command: Command) -> None:
        """Note a command as taken, once. Raises ProofError when it or a newer one was taken before."""
        if command.counter <= self.last().counter:
            raise ProofError("this command was obeyed before, or a newer one was")
        self._write(Entry(command.counter))

    def answered(self, counter: int, answer: bytes) -> None:
        self._write(Entry(counter, answer))

    def _read(self) -> Entry:
        try:
            version, counter, answer = decode(plain_bytes(self._path, MAX_LEDGER_BYTES), MAX_LEDGER_BYTES)
            known = version == 1 and type(counter) is int and 0 <= counter <= MAX_SEQUENCE
            if not known or not (answer is None or type(answer) is bytes):
                raise ValueError("not a ledger")
        except FileNotFoundError:
            return Entry()
        except (OSError, ValueError, TypeError, SyncError) as err:
            raise SyncError(
                f"{self._path.name} is damaged: no command is obeyed until it is restored"
            ) from err
        return Entry(counter, answer)

    def _write(self, entry: Entry) -> None:
        try:
            replace_file(self._path, cbor2.dumps([1, entry.counter, entry.answer]))
        except OSError as err:
            raise SyncError(
                f"the command could not be noted ({what_and_why(err)}), so it is not obeyed"
            ) from err
        self._entry = entry


@dataclass(slots=True)
class CommandHandler:
    """Obeys what `registry_key` signed; `signer` signs the answers. Implements `agent.Handler`."""

    unit: UnitId
    registry_key: ec.EllipticCurvePublicKey
    signer: Signer
    ledger: CommandLedger
    now_ms: Callable[[], int]
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    note: Note | None = None

    def last_answer(self) -> bytes | None:
        """The newest answer, which the registry may not have got. Raises SyncError for a damaged ledger."""
        last = self.ledger.last()
        if last.counter and last.answer is None:
            # We were killed after taking it. Nobody knows whether it was obeyed, so it is not tried again.
            return self._answer(last.counter, "interrupted", "killed")
        return last.answer

    def take(self, message: bytes) -> bytes:
        """Check, claim, obey; returns the signed answer. Raises SyncError when there is nothing to answer."""
        last_answer = self.last_answer()
        why: Why | None = None
        try:
            command = open_command(message, self.registry_key, self.unit, self.now_ms())
        except StaleCommandError as err:
            command, why = err.command, err.why
        if command.counter == self.ledger.last().counter and last_answer is not None:
            return last_answer  # the registry asks again because our answer was lost
        self.ledger.take(command)
        if why is not None:
            return self._answer(command.counter, "refused", why)
        handler = self.handlers.get(command.action)
        if handler is None:
            return self._answer(command.counter, "refused", "unknown_action")
        try:
            handler(command.arguments)
            return self._answer(command.counter, "done", "none")
        except CommandFailedError as err:
            return self._answer(command.counter, "failed", err.why)
        except (SyncError, OSError):
            return self._answer(command.counter, "failed", "fault")

    def _answer(self, counter: int, status: Status, why: Why) -> bytes:
        result = Result(self.unit, counter, status, why, self.now_ms())
        answer = result.signed(self.signer)
        if self.note is not None:
            self.note(result)
        self.ledger.answered(counter, answer)
        return answer


def number(arguments: Arguments, name: str) -> int:
    """A whole number from a command's arguments. Raises CommandFailedError."""
    value = arguments.get(name)
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise CommandFailedError("bad_arguments")
    return value
