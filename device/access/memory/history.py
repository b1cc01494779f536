"""What the unit must remember across power cuts: failures, phrases shown, where people are, lock-down.

One small file, replaced atomically, enciphered and authenticated under a key of this unit's store. Every
change is on disk before the call returns, and an attempt is charged *before* its evidence is looked at, so
pulling the plug never buys a free try.

A monotonic counter (TPM NV on the unit) refuses old copies: it moves once per start, when the first attempt
comes, and the file carries its value. Within one start only somebody who already controls the running unit
can put an old copy back.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.access.memory.holds import Hold
from device.access.memory.remembered import AttemptLimits, First, Position, Remembered, Standing, normal
from device.access.memory.timekeeping import TimeSeen
from device.access.memory.visits import Visit
from device.access.memory.voice_refusals import VoiceRefusals
from device.errors import DeviceError
from device.secure_store.signing import Mac
from sync.durable import replace_file
from sync.plain_file import open_plain
from sync.plain_words import why

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_AHEAD = 64
"""How far the file may be ahead of the counter: one per power cut between the two writes of a start."""
_PURPOSE = "attempt-history"
_MAGIC = b"OSTHIST2"
_NONCE_BYTES = 12
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
        self.path = path
        self._counter = counter
        self._mac = mac
        self._horizon = phrase_horizon
        self._begun = False
        self._lock = _lock(path)
        try:
            found = recall(path, counter, mac, never_used)
            # Waits begin anew, and who waited for a second person has gone.
            self._state = replace(found, since_s={}, opened_s=opened_s, first={}, boot=present_boot())
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def start_over(cls, path: Path, counter: Counter, mac: Mac, *, opened_s: float) -> Self:
        """An empty history after an admin has looked into why the old one was refused."""
        lock = _lock(path)
        try:
            _replace(path, _sealed(Remembered(epoch=counter.value()), mac))
        finally:
            os.close(lock)
        return cls(path, counter, mac, opened_s=opened_s)

    def begin(self) -> int:
        """The epoch of this start, larger than any before. Only the first call changes anything."""
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
        return self._state.standing(subject, limits, now_s, self._state.boot)

    def charge(self, subject: str, now_s: float) -> None:
        """Count a failure in advance; `settle` takes all of them back after a success."""
        subject = normal(subject)
        failures = {**self._state.failures, subject: self._state.failures.get(subject, 0) + 1}
        since_s = {**self._state.since_s, subject: now_s}
        self._write(replace(self._state, failures=failures, since_s=since_s))

    def refund(self, subject: str) -> None:
        """Take back one charge: nothing was judged, so nothing was learnt."""
        failures = dict(self._state.failures)
        subject = normal(subject)
        left = failures.pop(subject, 0) - 1
        if left > 0:
            failures[subject] = left
        self._write(replace(self._state, failures=failures))

    def count_again(self, subject: str, failures: int) -> None:
        """So many failures of `subject` as were counted before something broke off, whatever was written
        since."""
        others = {who: n for who, n in self._state.failures.items() if who != normal(subject)}
        counted = {normal(subject): failures} if failures > 0 else {}
        self._write(replace(self._state, failures={**others, **counted}))

    def settle(
        self,
        subjects: tuple[str, ...],
        moved: Mapping[str, Position | None] | None = None,
        first: Mapping[str, First | None] | None = None,
    ) -> None:
        """A success: forget the failures of `subjects`, note where people now are (None: nowhere) and who
        waits at which door (None: nobody), in one write."""
        done = set(map(normal, subjects))
        failures = {s: n for s, n in self._state.failures.items() if s not in done}
        positions = {**self._state.positions, **{normal(u): p for u, p in (moved or {}).items()}}
        waiting = {**self._state.first, **(first or {})}
        self._write(
            replace(
                self._state,
                failures=failures,
                positions={u: p for u, p in positions.items() if p is not None},
                first={d: f for d, f in waiting.items() if f is not None},
            )
        )

    def pardon(self, subject: str) -> bool:
        """An admin enables a claim again and forgets where that person is; False when nothing was held."""
        subject = normal(subject)
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
        return self._state.positions.get(normal(uid))

    def waiting(self, door: str, now_s: float) -> First | None:
        """Who waits at `door` for a second person."""
        return self._state.waiting(door, now_s, self._state.boot)

    @property
    def waiting_doors(self) -> tuple[str, ...]:
        """The doors at which somebody waits, or has waited, for a second person."""
        return tuple(self._state.first)

    def voice_refusals(self, uid: str) -> VoiceRefusals | None:
        """What `keep_voice_refusals` kept."""
        return self._state.voice_refusals.get(normal(uid))

    def keep_voice_refusals(self, uid: str, found: VoiceRefusals | None) -> None:
        """When this person was refused for their voice; survives a restart. None: nothing any more."""
        others = {u: kept for u, kept in self._state.voice_refusals.items() if u != normal(uid)}
        refusals = others if found is None else {**others, normal(uid): found}
        self._write(replace(self._state, voice_refusals=refusals))

    def drop_voice_refusals(self, day: int) -> None:
        """Forget those that count no more on `day`."""
        kept = {u: found for u, found in self._state.voice_refusals.items() if found.counts(day)}
        if kept != self._state.voice_refusals:
            self._write(replace(self._state, voice_refusals=kept))

    def forget(self, uid: str) -> bool:
        """Erase what is known of a person, as part of forgetting them; False when nothing was."""
        left = replace(self._state, **self._state.without(uid))
        if left == self._state:
            return False
        self._write(left)
        return True

    def keep_only(self, uids: Iterable[str]) -> None:
        """Erase what is known of everybody else."""
        known = set(map(normal, uids))
        people = {s.removeprefix("person:") for s in self._state.failures if s.startswith("person:")}
        people |= set(self._state.voice_refusals)
        people |= set(self._state.positions) | {normal(first.uid) for first in self._state.first.values()}
        state = self._state
        for uid in people - known:
            state = replace(state, **state.without(uid))
        if state != self._state:
            self._write(state)

    @property
    def time_seen(self) -> TimeSeen:
        return self._state.time

    def saw_time(self, seen: TimeSeen) -> None:
        """Note it for the next write, which every charge is."""
        self._state = replace(self._state, time=seen)

    def keep(self) -> None:
        """Write what was noted."""
        self._write(self._state)

    def locked_down(self, door: str) -> bool:
        return self._state.is_locked_down(door)

    def lock_down(self, door: str, on: bool) -> None:
        """Lock one door, or all with `*`, until it is lifted; survives a restart."""
        doors = self._state.locked_down | {door} if on else self._state.locked_down - {door}
        holds = {d: hold for d, hold in self._state.holds.items() if not on or door not in (d, "*")}
        self._write(replace(self._state, locked_down=doors, holds=holds))

    def held(self, door: str) -> Hold | None:
        """What `hold` kept."""
        return self._state.holds.get(door)

    def hold(self, door: str, hold: Hold | None) -> None:
        """When a door is to stand unlocked; survives a restart. None: not any more. A lock-down ends it."""
        others = {d: kept for d, kept in self._state.holds.items() if d != door}
        self._write(replace(self._state, holds=others if hold is None else {**others, door: hold}))

    def visit(self, person: str) -> Visit | None:
        """What `keep_visit` kept of this pseudonym."""
        return self._state.visits.get(person)

    @property
    def visits(self) -> int:
        """How many are kept."""
        return len(self._state.visits)

    def keep_visit(self, person: str, visit: Visit | None) -> None:
        """When a pseudonym may pass at all; survives a restart. None: as the rules say."""
        others = {p: kept for p, kept in self._state.visits.items() if p != person}
        self._write(replace(self._state, visits=others if visit is None else {**others, person: visit}))

    def shown_before(self, digest: bytes) -> bool:
        return digest.hex() in self._state.phrases

    def remember(self, digest: bytes) -> None:
        phrases = (*self._state.phrases, digest.hex())[-self._horizon :]
        self._write(replace(self._state, phrases=phrases))

    @property
    def memory_version(self) -> int:
        """The lowest version of the memory of utterances that is not an old copy."""
        return self._state.memory

    def memory_reached(self, version: int) -> None:
        """Note the memory's version, for the next write, which every charge is."""
        self._state = replace(self._state, memory=version)

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _write(self, state: Remembered) -> None:
        self._put(replace(state, epoch=self.begin()))  # no change of any kind can be undone by an old copy

    def _put(self, state: Remembered) -> None:
        if self._lock < 0:
            raise HistoryError("the attempt history is closed")
        _replace(self.path, _sealed(state, self._mac))
        self._state = state


def recall(path: Path, counter: Counter, mac: Mac, never_used: int = 1) -> Remembered:
    """What is in the history at `path`, which another process may hold; empty on a unit that was never
    used. Raises HistoryRollbackError or HistoryError."""
    counted = counter.value()
    try:
        with open_plain(path) as file:
            sealed = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if counted > never_used:
            raise HistoryRollbackError(f"the attempt history is gone; {_LOOK_INTO_IT}") from None
        return Remembered(epoch=counted)
    except OSError as err:
        raise HistoryError(f"cannot read {path.name}: {why(err)}") from err
    # 1. Written by this unit, and whole.
    body = opened_file(sealed, mac)
    try:
        state = Remembered.from_bytes(body)
    except (ValueError, KeyError, TypeError) as err:
        raise HistoryError(f"the attempt history cannot be read ({type(err).__name__})") from err
    # 2. The latest: not behind the counter, and ahead only by power cuts.
    if not counted <= state.epoch <= counted + MAX_AHEAD:
        raise HistoryRollbackError(
            f"the attempt history is of start {state.epoch}, the counter says {counted}; {_LOOK_INTO_IT}"
        )
    return state


@cache
def present_boot() -> str:
    """Names this boot of the machine: monotonic times of another say nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _sealed(state: Remembered, mac: Mac) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _MAGIC + nonce + _cipher(mac).encrypt(nonce, state.to_bytes(), _MAGIC)


def opened_file(sealed: bytes, mac: Mac) -> bytes:
    """The body of the file; of version 1 too, which was authenticated and in the clear."""
    if len(sealed) <= MAX_FILE_BYTES and sealed.startswith(_MAGIC):
        start = len(_MAGIC)
        nonce, rest = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        with contextlib.suppress(InvalidTag, ValueError):
            return _cipher(mac).decrypt(nonce, rest, _MAGIC)
    tag, _, body = sealed.partition(b"\n")
    if len(sealed) > MAX_FILE_BYTES or not hmac.compare_digest(tag, mac(_PURPOSE, body).hex().encode()):
        raise HistoryRollbackError(f"the attempt history is damaged or foreign; {_LOOK_INTO_IT}")
    return body


def _cipher(mac: Mac) -> AESGCM:
    return AESGCM(mac(f"{_PURPOSE} key", b""))


def _replace(path: Path, content: bytes) -> None:
    """Durable before it returns."""
    try:
        replace_file(path, content)
    except OSError as err:
        raise HistoryError(f"cannot write {path.name}: {why(err)}; nobody is let in until it can") from err


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise HistoryError(f"cannot open {path.name}: {why(err)}") from err
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise HistoryBusyError("another Ostiary process holds the attempt history; stop it first") from None
    return descriptor
