"""A process that dies by `kill -9` at a chosen write: for what must come through a power cut whole."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn


class Writes:
    """Counts the points before and after each write of this process, and kills it at one of them."""

    def __init__(self, die_at: int | None) -> None:
        self.count = 0
        self._die_at = die_at

    def reached(self) -> None:
        self.count += 1
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def marked(*arguments: Any, **named: Any) -> Any:
            self.reached()
            result = work(*arguments, **named)
            self.reached()
            return result

        return marked

    def watch(self) -> None:
        """Mark fsync, rename and every statement of SQLite that changes something, in this process alone."""
        writes = self

        class Marked(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                plain = super().execute
                quiet = sql.lstrip().upper().startswith("SELECT")
                return plain(sql, *arguments) if quiet else writes.around(plain)(sql, *arguments)

            def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:
                return writes.around(super().executemany)(sql, rows)

            def __exit__(self, *failure: Any) -> Any:  # commits
                return writes.around(super().__exit__)(*failure)

        sqlite3.connect = functools.partial(sqlite3.connect, factory=Marked)  # type: ignore[assignment]
        os.fsync = self.around(os.fsync)
        Path.replace = self.around(Path.replace)  # type: ignore[method-assign]


def lives_until(die_at: int | None, work: Callable[[], None]) -> int | None:
    """`work` in a forked process: how many points it passed, or None when it was killed at `die_at`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _live(die_at, work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, "it crashed; its traceback is above"
    return int(said)


def _live(die_at: int | None, work: Callable[[], None], writing: int) -> NoReturn:
    status = 70
    try:
        writes = Writes(die_at)
        writes.watch()
        work()
        os.write(writing, str(writes.count).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - the fork must never return into pytest
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
