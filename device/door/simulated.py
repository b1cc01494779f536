"""The wires of a door for development: files in a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from device.door.debounce import Level
from device.door.lines import DoorError
from device.door.settings import STRIKE
from device.door.supervision import Line
from sync.plain_file import open_plain
from sync.plain_words import what_and_why

POLL_S = 0.02

log = logging.getLogger(__name__)


class SimulatedLines:
    """Lines in `folder`, each a file that reads `0` or `1`; without a folder there are none.

    A file that cannot be read is inactive, since a cut wire must not open a door; that is logged once.
    """

    def __init__(self, folder: Path | None, now_s: Callable[[], float]) -> None:
        self._folder = folder
        self._now_s = now_s
        self._told: dict[Line, bool] = {}
        self._unreadable: set[Line] = set()

    def edges(self, timeout_s: float) -> Iterator[Level]:
        until_s = time.monotonic() + timeout_s
        while True:
            changed = [item for item in self.levels().items() if self._told.get(item[0]) != item[1]]
            for line, active in changed:
                self._told[line] = active
                yield Level(line, active, self._now_s())
            left_s = until_s - time.monotonic()
            if changed or left_s <= 0:
                return
            time.sleep(min(left_s, POLL_S if self._folder is not None else left_s))

    def levels(self) -> Mapping[Line, bool]:
        if self._folder is None:
            return {}
        return {line: self._active(self._folder / line, line) for line in Line}

    def move(self, released: bool) -> None:
        if self._folder is not None:
            try:
                (self._folder / STRIKE).write_text("1" if released else "0")
            except OSError as err:
                raise DoorError(f"the simulated strike cannot be written ({what_and_why(err)})") from err

    def close(self) -> None:
        try:
            self.move(False)
        except DoorError as err:
            log.error("%s", err)

    def _active(self, path: Path, line: Line) -> bool:
        try:
            with open_plain(path) as file:
                level = file.read(8).strip()
            if level not in (b"0", b"1"):
                raise ValueError(f"it holds {level!r}")
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as err:
            if line not in self._unreadable:
                log.error("the line %s cannot be read (%s); it counts as inactive", line, what_and_why(err))
            self._unreadable.add(line)
            return False
        self._unreadable.discard(line)
        return level == b"1"
