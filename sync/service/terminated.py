"""Stopping a service at SIGTERM or Ctrl-C, also where Python drops what a signal handler raised."""

from __future__ import annotations

import signal
import threading
from typing import NoReturn, Self


class Terminated:
    """Raises KeyboardInterrupt when the process is told to stop, and remembers that it was told.

    Python drops an exception that a handler raises while an object is taken down (`__del__`, a weak
    reference's callback). A service that only waits for the exception would then run on, so its loop looks.
    """

    def __init__(self) -> None:
        self.asked = False

    @classmethod
    def heeded(cls) -> Self:
        """One that SIGTERM and SIGINT call from now on. Call it in the main thread."""
        made = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, made)
        return made

    def __call__(self, _signal: int, _frame: object) -> NoReturn:
        self.asked = True
        raise KeyboardInterrupt

    def look(self) -> None:
        """Raises KeyboardInterrupt where the process was told to stop and has not."""
        if self.asked:
            raise KeyboardInterrupt


def stop_event() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set from now on. Call it in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
