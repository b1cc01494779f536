"""What the unit must remember across power cuts: failures, phrases shown, where people are, lock-down.

One small file, replaced atomically and authenticated by a keyed hash. Every change is on disk before the call
returns, and an attempt is charged *before* its evidence is looked at, so pulling the plug never buys a free
try.

Old copies are refused by a monotonic counter (TPM NV on the unit): it moves once per start, when the first
attempt comes, and the file carries its value. Within one start an old copy can only be put back by somebody
who already controls the running unit. So the counter wears by one write per used start, not per attempt.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

from device.errors import DeviceError
from device.secure_store.signing import Mac

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_AHEAD = 64
"""How far the file may be ahead of the counter: one per power cut between the two writes of a start."""
_PURPOSE = "attempt-history"
_LOOK_INTO_IT = "find out why, then `ostiary policy start-over`"


class HistoryError(DeviceError):
    """The history cannot be read or written, so nobody is let in until it can."""


class HistoryRollbackError(HistoryError):
    """The file is older than the counter, changed or gone: somebody may have put an old copy back."""


class HistoryBusyError(HistoryError):
    """Another process of this unit holds the history."""


class Counter(Protocol):
    """A counter that never goes back (TPM NV, or software on a laptop)."""

    def value(self) -> int: ...

    def advance(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """When failures make a person wait, and when only an admin helps. NIST SP 800-63B-4 3.2.2 and 3.2.3.

    After `free_failures` the wait is `first_wait_s`, doubling with every further failure up to
    `longest_wait_s`; from `disable_after` on the claim is disabled.
    """

    free_failures: int = 5
    first_wait_s: float = 30.0
    longest_wait_s: float = 3600.0
    disable_after: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.free_failures < self.disable_after <= 100:
            raise ValueError(
                "failures before a wait must be at least 1, before disabling more, and 100 at most"
            )
        if not 30.0 <= self.first_wait_s <= self.longest_wait_s <= 86_400.0:
            raise ValueError("the first wait is at least 30 s, the longest not shorter and a day at most")

    def wait_after(self, failures: int) -> float:
        """Seconds that must pass between failure number `failures` and the next try."""
        if failures < self.free_failures:
            return 0.0
        doublings = min(failures - self.free_failures, 32)
        return min(self.longest_wait_s, self.first_wait_s * 2.0**doublings)


LIMITS_WITH_LIVENESS = AttemptLimits(free_failures=10, disable_after=100)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a claim stands with its limits."""

    failures: int
    wait_s: float
    disabled: bool

    @property
    def may_try(self) -> bool:
        return not self.disabled and self.wait_s <= 0.0


@dataclass(frozen=True, slots=True)
class Position:
    """The zone a person was last let into, by the wall clock."""

    zone: str
    since: datetime


@dataclass(frozen=True, slots=True)
class _State:
    epoch: int
    failures: Mapping[str, int] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()
    positions: Mapping[str, Position] = field(default_factory=dict)
    locked_down: frozenset[str] = frozenset()
    memory: int = 0
    """The version that the memory of utterances has reached (`device/liveness/memory_file.py`)."""

    def to_bytes(self) -> bytes:
        table = {
            "version": 1,
            "epoch": self.epoch,
            "failures": dict(self.failures),
            "phrases": list(self.phrases),
            "positions": {uid: [p.zone, p.since.isoformat()] for uid, p in self.positions.items()},
            "locked_down": sorted(self.locked_down),
            "memory": self.memory,
        }
        return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> _State:
        table: dict[str, Any] = json.loads(body)
        if table["version"] != 1:
            raise ValueError(f"version {table['version']} is not 1")
        return cls(
            epoch=int(table["epoch"]),
            failures={str(subject): int(count) for subject, count in table["failures"].items()},
            phrases=tuple(table["phrases"]),
            positions={u: Position(z, datetime.fromisoformat(t)) for u, (z, t) in table["positions"].items()},
            locked_down=frozenset(table["locked_down"]),
            memory=int(table.get("memory", 0)),  # histories of earlier versions know of no memory
        )


class History:
    """The durable memory of one unit. One process at a time holds it."""

    def __init__(
        self,
        path: Path,
        counter: Counter,
        mac: Mac,
        *,
        opened_s: float,
        phrase_horizon: int = 512,
        never_used: int = 1,
    ) -> None:
        """Open `path`, or start afresh when neither file nor counter was ever used.

        `counter` steps by one and is for this file alone; `never_used` is its value on a unit just
        provisioned. `opened_s` is the monotonic clock: waits begin anew at a restart, since no clock tells
        how long it took. Raises HistoryRollbackError, HistoryBusyError or HistoryError.
        """
        self._path = path
        self._counter = counter
        self._mac = mac
        self._opened_s = opened_s
        self._horizon = phrase_horizon
        self._never_used = never_used
        self._since_s: dict[str, float] = {}
        self._begun = False
        self._lock = _lock(path)
        try:
            self._state = self._read()
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def start_over(cls, path: Path, counter: Counter, mac: Mac, *, opened_s: float) -> Self:
        """An empty history after an admin has looked into why the old one was refused."""
        lock = _lock(path)
        try:
            _replace(path, _sealed(_State(epoch=counter.value()), mac))
        finally:
            os.close(lock)
        return cls(path, counter, mac, opened_s=opened_s)

    def begin(self) -> int:
        """The epoch of this start, larger than any before.

        Idempotent; called when the first attempt comes.
        """
        if not self._begun:
            # The file goes first: a cut between the two leaves it ahead of the counter, never behind, and the
            # next start takes a number that no copy of the file has ever carried.
            epoch = max(self._state.epoch, self._counter.value()) + 1
            self._put(replace(self._state, epoch=epoch))
            for _ in range(2 * MAX_AHEAD):
                if self._counter.advance() >= epoch:
                    break
            if self._counter.value() != epoch:
                raise HistoryError("the monotonic counter does not advance by one; run `ostiary doctor`")
            self._begun = True
        return self._state.epoch

    def standing(self, subject: str, limits: AttemptLimits, now_s: float) -> Standing:
        """Whether `subject` may try now."""
        failures = self._state.failures.get(subject, 0)
        elapsed_s = max(0.0, now_s - self._since_s.get(subject, self._opened_s))
        wait_s = max(0.0, limits.wait_after(failures) - elapsed_s)
        return Standing(failures, wait_s, failures >= limits.disable_after)

    def charge(self, subject: str, now_s: float) -> None:
        """Count a failure in advance; `settle` takes all of them back after a success."""
        failures = {**self._state.failures, subject: self._state.failures.get(subject, 0) + 1}
        self._write(replace(self._state, failures=failures))
        self._since_s[subject] = now_s

    def refund(self, subject: str) -> None:
        """Take back one charge: nothing was judged, so nothing was learnt."""
        failures = dict(self._state.failures)
        left = failures.pop(subject, 0) - 1
        if left > 0:
            failures[subject] = left
        self._write(replace(self._state, failures=failures))

    def settle(self, subjects: tuple[str, ...], moved: Mapping[str, Position] | None = None) -> None:
        """A success: forget the failures of `subjects` and note where people now are, in one write."""
        failures = {s: n for s, n in self._state.failures.items() if s not in subjects}
        positions = {**self._state.positions, **(moved or {})}
        self._write(replace(self._state, failures=failures, positions=positions))

    def pardon(self, subject: str) -> bool:
        """An admin enables a claim again and forgets where that person is; False when nothing was held."""
        uid = subject.removeprefix("person:")
        if subject not in self._state.failures and uid not in self._state.positions:
            return False
        if subject != uid:
            self.forget(uid)
        else:
            self.settle((subject,))
        return True

    def failing(self) -> Mapping[str, int]:
        """Every subject with failures, for an admin's table."""
        return dict(self._state.failures)

    def position(self, uid: str) -> Position | None:
        return self._state.positions.get(uid)

    def move(self, where: Mapping[str, Position | None]) -> None:
        """Note where people are; None forgets it."""
        positions = {**self._state.positions, **where}
        self._write(replace(self._state, positions={u: p for u, p in positions.items() if p is not None}))

    def forget(self, uid: str) -> None:
        """Erase what is known of a person, as part of forgetting them."""
        failures = {s: n for s, n in self._state.failures.items() if s != f"person:{uid}"}
        positions = {u: p for u, p in self._state.positions.items() if u != uid}
        self._write(replace(self._state, failures=failures, positions=positions))

    def locked_down(self, door: str) -> bool:
        return bool(self._state.locked_down & {door, "*"})

    def lock_down(self, door: str, on: bool) -> None:
        """Lock one door, or all with `*`, until it is lifted; survives a restart."""
        doors = self._state.locked_down | {door} if on else self._state.locked_down - {door}
        self._write(replace(self._state, locked_down=doors))

    def shown_before(self, digest: bytes) -> bool:
        return digest.hex() in self._state.phrases

    def remember(self, digest: bytes) -> None:
        phrases = (*self._state.phrases, digest.hex())[-self._horizon :]
        self._write(replace(self._state, phrases=phrases))

    @property
    def memory_version(self) -> int:
        """What the memory of utterances must have reached: less is an old copy."""
        return self._state.memory

    def memory_reached(self, version: int) -> None:
        """Vouch for the memory's version with the next write, which every charge is."""
        self._state = replace(self._state, memory=version)

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _read(self) -> _State:
        counted = self._counter.value()
        try:
            with self._path.open("rb") as file:
                sealed = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            if counted > self._never_used:
                raise HistoryRollbackError(f"the attempt history is gone; {_LOOK_INTO_IT}") from None
            return _State(epoch=counted)
        except OSError as err:
            raise HistoryError(f"cannot read {self._path.name}: {err.strerror}") from err
        tag, _, body = sealed.partition(b"\n")
        # 1. Written by this unit, and whole.
        if len(sealed) > MAX_FILE_BYTES or not hmac.compare_digest(
            tag, self._mac(_PURPOSE, body).hex().encode()
        ):
            raise HistoryRollbackError(f"the attempt history is damaged or foreign; {_LOOK_INTO_IT}")
        try:
            state = _State.from_bytes(body)
        except (ValueError, KeyError, TypeError) as err:
            raise HistoryError(f"the attempt history cannot be read ({err})") from err
        # 2. The latest: not behind the counter, and ahead only by power cuts.
        if not counted <= state.epoch <= counted + MAX_AHEAD:
            raise HistoryRollbackError(
                f"the attempt history is of start {state.epoch}, the counter says {counted}; {_LOOK_INTO_IT}"
            )
        return state

    def _write(self, state: _State) -> None:
        self._put(replace(state, epoch=self.begin()))  # no change of any kind can be undone by an old copy

    def _put(self, state: _State) -> None:
        if self._lock < 0:
            raise HistoryError("the attempt history is closed")
        _replace(self._path, _sealed(state, self._mac))
        self._state = state


def _sealed(state: _State, mac: Mac) -> bytes:
    body = state.to_bytes()
    return mac(_PURPOSE, body).hex().encode() + b"\n" + body


def _replace(path: Path, content: bytes) -> None:
    """Durable before it returns: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            temporary.chmod(0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as err:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise HistoryError(
            f"cannot write {path.name}: {err.strerror}; nobody is let in until it can"
        ) from err


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise HistoryError(f"cannot open {path.name}: {err.strerror}") from err
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise HistoryBusyError("another Ostiary process holds the attempt history; stop it first") from None
    return descriptor
