"""What runs beside the door's loop: one thread, from entering to leaving."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """Used as `with`: begins with the block, and has ended when the block has."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None:
        """In the thread: works until `_stop` is set."""

    def _begin(self) -> None:  # noqa: B027 - most have nothing to do
        """Before the thread starts. What it raises, the `with` raises."""

    def _ended(self) -> None:  # noqa: B027
        """After the thread has ended."""

    def __enter__(self) -> Self:
        self._begin()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._ended()
