"""A serial port as libosdp reads and writes it: raw bytes, never waiting."""

from __future__ import annotations

import os
import termios
import tty
from pathlib import Path

from device.door.lines import DoorError
from sync.plain_words import why


class SerialPort:
    """Raises DoorError when the port cannot be opened; `lost` says why a port was lost later."""

    def __init__(self, path: Path, baud: int) -> None:
        self.lost = ""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            raise DoorError(
                f"the port {path} to the controller cannot be opened ({why(err)}); check "
                "`[door.osdp] port` and this user's groups"
            ) from err
        try:
            tty.setraw(self._descriptor, termios.TCSANOW)
            found = termios.tcgetattr(self._descriptor)
            found[4] = found[5] = getattr(termios, f"B{baud}")
            found[2] |= termios.CLOCAL | termios.CREAD
            termios.tcsetattr(self._descriptor, termios.TCSANOW, found)
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except termios.error as err:
            os.close(self._descriptor)
            raise DoorError(
                f"{path} is no serial port ({why(OSError(*err.args))}); check `[door.osdp] port`"
            ) from err
        self.id = hash(str(path)) & 0x7FFFFFFF  # libosdp asks for a number of the channel

    def read(self, max_bytes: int) -> bytes:
        try:
            return os.read(self._descriptor, max_bytes)
        except BlockingIOError:
            return b""
        except OSError as err:
            self.lost = f"the line to the controller was lost ({why(err)}); check its adapter"
            return b""

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as err:
            self.lost = f"the line to the controller was lost ({why(err)}); check its adapter"
            return 0

    def flush(self) -> None:
        """Drop waiting bytes, as libosdp asks after a broken frame."""
        if not self.lost:
            termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def close(self) -> None:
        os.close(self._descriptor)
