"""A thread beside the door's loop, from entering a block to leaving it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Use it in a `with` block: the thread runs for as long as the block."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None:
        """The thread's work, until `_stop` is set."""

    def _begin(self) -> None:  # noqa: B027 - most have nothing to do
        """Called before the thread starts; what it raises, the `with` raises."""

    def _ended(self) -> None:  # noqa: B027
        """Called after the thread has ended."""

    def __enter__(self) -> Self:
        self._begin()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._ended()
