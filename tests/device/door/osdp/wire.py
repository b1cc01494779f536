"""Two ports with somebody between them: what the unit and the controller send passes a relay that may look,
change and drop.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Self

from device.access.badges import CardBits
from device.door.osdp.peripheral import Command, Peripheral
from device.door.osdp.port import SerialPort

CARD = CardBits.parse("26:2AB3C440")


class Wire:
    """`reader` and `panel` are two serial ports; `from_reader` and `from_panel` change what passes."""

    def __init__(self) -> None:
        self._ends = [pty.openpty(), pty.openpty()]
        for controller, _ in self._ends:
            tty.setraw(controller)
        self.reader, self.panel = (Path(os.ttyname(terminal)) for _, terminal in self._ends)
        self.seen = bytearray()
        self.from_reader: Callable[[bytes], bytes] = lambda data: data
        self.from_panel: Callable[[bytes], bytes] = lambda data: data
        self.cut = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._relay, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for controller, terminal in self._ends:
            os.close(controller)
            os.close(terminal)

    def _relay(self) -> None:
        reader, panel = self._ends[0][0], self._ends[1][0]
        while not self._stop.is_set():
            for ready in select.select([reader, panel], [], [], 0.05)[0]:
                data = os.read(ready, 4096)
                self.seen += data
                changed = self.from_reader(data) if ready == reader else self.from_panel(data)
                if changed and not self.cut:
                    os.write(panel if ready == reader else reader, changed)


class Recorder:
    """A Panel that remembers."""

    def __init__(self, takes_keys: bool = False) -> None:
        self.commands: list[Command] = []
        self.secure: list[bool] = []
        self.keys: list[bytes] = []
        self._takes_keys = takes_keys

    def commanded(self, command: Command) -> None:
        self.commands.append(command)

    def online(self, secure: bool) -> None:
        self.secure.append(secure)

    def key_offered(self, key: bytes) -> bool:
        self.keys.append(key)
        return self._takes_keys


def unit(wire: Wire, key: bytes | None, panel: Recorder, *, install: bool = False) -> Peripheral:
    """This unit at its end of the wire."""
    return Peripheral(SerialPort(wire.reader, 9_600), 1, key, 0x1234, panel, install=install)
