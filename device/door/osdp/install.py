"""Lets the controller set this reader's key, once, at installation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from device.door.lines import DoorError
from device.door.osdp.peripheral import Command

log = logging.getLogger(__name__)


class Installing:
    """A Panel that takes one good key and obeys no other command."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        """`keep` seals the key; it may raise DoorError, and then the controller is refused."""
        self._keep = keep
        self.done = threading.Event()
        """Set when a key was kept."""
        self.refused = ""
        """Why a key was refused, as the end of a sentence; empty when none was."""

    def commanded(self, command: Command) -> None:
        """Nothing is obeyed while the default key serves."""

    def online(self, secure: bool) -> None:
        log.info("the controller is %s", "there" if secure else "away")

    def key_offered(self, key: bytes) -> bool:
        if self.done.is_set():
            return False
        try:
            self._keep(key)
        except DoorError as err:
            self.refused = f": {err}"
            return False
        self.done.set()
        return True
