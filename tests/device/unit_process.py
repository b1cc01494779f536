"""A unit in a process of its own that really dies: `kill -9` at a chosen point of a write, or at any moment.

The process is forked, holds the real controller and history, and answers one request at a time. What survives
it is what survives a kill: the files, and a counter in shared memory that stands for TPM NV.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from device.access.challenge import Challenge
from device.access.controller import AccessController
from device.access.decision import Decision
from device.access.memory.history import History, HistoryRollbackError
from device.access.rules import Rules
from device.clock import Now
from device.evidence.judge import Evidence
from tests.device.door_world import MORNING, mac


class KilledError(Exception):
    """The process died before it answered: nobody knows how far it came."""


class At(Enum):
    """A point of one change of the history, in the order in which they come."""

    BEFORE_WRITE = "before the file is written"
    BEFORE_SYNC = "written, not yet synced or renamed"
    BEFORE_RENAME = "synced, not yet renamed"
    AFTER_RENAME = "renamed, directory not yet synced"
    AFTER_WRITE = "all of it done, nobody told"
    BEFORE_COUNTER = "before the counter moves"
    AFTER_COUNTER = "after the counter moved"


class SharedCounter:
    """Counts like TPM NV: one number that outlives every process."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        self._shared[:] = struct.pack("<q", 1)
        self.reached: Callable[[At], None] = lambda _: None

    def value(self) -> int:
        return int(struct.unpack("<q", self._shared[:])[0])

    def advance(self) -> int:
        self.reached(At.BEFORE_COUNTER)
        self._shared[:] = struct.pack("<q", self.value() + 1)
        self.reached(At.AFTER_COUNTER)
        return self.value()


class UnitProcess:
    """Like `World`, but what it drives can be killed. `restart` brings it up again from what is left."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self.folder = folder
        self.wall: datetime = MORNING
        self.monotonic_s = 50.0
        self.die_in: tuple[int, At] | None = None
        """Kill it when this many changes have come to this point."""
        self.die_after_us: int | None = None
        """Kill it this long after the next request was sent, wherever it then is."""
        self._rules = rules
        self._counter = SharedCounter()
        self._pid = 0
        self._pipe: Connection
        self.start()

    @property
    def now(self) -> Now:
        return Now(self.wall, self.monotonic_s)

    def later(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.monotonic_s += seconds

    def greet(self, uid: str, door: str) -> Challenge | Decision:
        found = self._ask("greet", door, uid, self.now)
        assert isinstance(found, Challenge | Decision)
        return found

    def answer(
        self, challenge: Challenge, heard: Evidence | BaseException, *, uid: str, door: str
    ) -> Decision:
        found = self._ask("answer", challenge, heard, self.now, door, uid)
        assert isinstance(found, Decision)
        return found

    def failing(self) -> Mapping[str, int]:
        found: Mapping[str, int] = self._ask("failing")
        return found

    def pardon(self, uid: str) -> None:
        self._ask("pardon", uid)

    def start(self) -> None:
        """Raises HistoryRollbackError when the unit refuses to start on this file."""
        ours, theirs = Pipe()
        gc.freeze()  # a collection in the child would touch, and so copy, every page of the parent
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _live(self.folder, self._rules, self._counter, theirs, self.monotonic_s)
        theirs.close()
        self._pipe = ours
        if (refused := self._receive()) is not None:
            self.stop()
            raise HistoryRollbackError(refused)

    def restart(self) -> None:
        """Off and on again; the monotonic clock begins anew."""
        self.stop()
        self.monotonic_s = 3.0
        self.start()

    def stop(self) -> None:
        """Kill it, if it lives."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
            self._pipe.close()

    def _ask(self, what: str, *arguments: object) -> Any:
        sent_death, self.die_in = self.die_in, None
        after_us, self.die_after_us = self.die_after_us, None
        try:
            self._pipe.send((what, arguments, sent_death))
            if after_us is not None:
                time.sleep(after_us / 1e6)
                os.kill(self._pid, signal.SIGKILL)
                raise KilledError  # even if it had answered: nobody was there to hear it
        except BrokenPipeError as err:
            raise KilledError from err
        return self._receive()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError) as err:
            raise KilledError from err


def _live(
    folder: Path, rules: Rules, counter: SharedCounter, pipe: Connection, monotonic_s: float
) -> NoReturn:
    """The child: serve until killed."""
    gc.disable()
    death: list[tuple[int, At]] = []

    def reached(at: At) -> None:
        if death and death[0][1] is at:
            left = death[0][0]
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            death[0] = (left - 1, at)

    _mark_writes(reached)
    counter.reached = reached
    try:
        history = History(folder / "history", counter, mac, opened_s=monotonic_s, phrase_horizon=64)
    except HistoryRollbackError as err:
        pipe.send(str(err))
        os._exit(0)
    controller = AccessController(
        "site-1/unit-1",
        rules,
        history,
        mac,
        enrolled=lambda uid: uid in rules.people,
        same_voice_llr=lambda a, b: -9.0,
    )
    pipe.send(None)
    while True:
        try:
            what, arguments, planned = pipe.recv()
        except EOFError:
            os._exit(0)  # the test has gone
        if planned is not None:
            death[:] = [planned]
        pipe.send(_served(controller, history, what, arguments))


def _served(controller: AccessController, history: History, what: str, arguments: tuple[Any, ...]) -> object:
    if what == "greet":
        return controller.greet(*arguments)
    if what == "answer":
        challenge, heard, now, door, uid = arguments
        return controller.decide(challenge, heard, now, door=door, uid=uid, speech_began_s=now.monotonic_s)
    if what == "pardon":
        return controller.pardon(*arguments)
    return dict(history.failing())


def _mark_writes(reached: Callable[[At], None]) -> None:
    """Report each point of a change of a file, in this process alone, as the system is asked for it."""
    open_, fsync, rename = os.open, os.fsync, Path.replace

    def marked_open(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_TRUNC:
            reached(At.BEFORE_WRITE)
        return open_(path, flags, mode, **more)

    def marked_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not is_folder:
            reached(At.BEFORE_SYNC)
        fsync(descriptor)
        if is_folder:
            reached(At.AFTER_WRITE)

    def marked_rename(path: Path, target: Path) -> Path:
        reached(At.BEFORE_RENAME)
        moved = rename(path, target)
        reached(At.AFTER_RENAME)
        return moved

    os.open = marked_open
    os.fsync = marked_fsync
    Path.replace = marked_rename  # type: ignore[method-assign,assignment]
