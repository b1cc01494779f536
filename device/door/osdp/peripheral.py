"""This unit as an OSDP peripheral. The one module that touches libosdp.

The secure channel is enforced twice: `frames.screened` passes only identity, capabilities and the handshake
in clear, and the library answers nothing else. Its wrapper's thread, key store and default key are not used.
What cannot be sent because the controller is away is dropped: a late read would open a door for somebody who
left.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from device.access.badges import CardBits
from device.background import Background
from device.door.lines import DoorError
from device.door.osdp.channel import Channel
from device.door.osdp.keys import KEY_BYTES, weakness
from device.door.osdp.port import SerialPort

REFRESH_S = 0.01
"""libosdp must be called at least every 50 ms."""
STALE_S = 2.0
"""A read that the controller has not fetched in this time is dropped."""
STUCK_S = 60.0
VENDOR = 0x4F5354
"""`OST`: in the unit's identity, and before each manufacturer's command and reply."""
MAX_REPLY_BYTES = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Light:
    """The controller sets the reader's LED: red, green, amber, blue, ... or none."""

    colour: str


@dataclass(frozen=True, slots=True)
class Beep:
    """The controller has the reader beep."""


@dataclass(frozen=True, slots=True)
class Text:
    """The controller has the reader show a text of at most 32 characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A manufacturer's command of ours."""

    data: bytes


Command = Light | Beep | Text | Asked


class Panel(Protocol):
    """Told what the controller does, from the peripheral's thread; returns quickly."""

    def commanded(self, command: Command) -> None: ...

    def online(self, secure: bool) -> None:
        """The secure channel is up, or was lost."""

    def key_offered(self, key: bytes) -> bool:
        """Whether the key that the controller sets is taken."""


class Peripheral(Background):
    """Serves the controller from entry to exit, in a thread of its own."""

    def __init__(
        self,
        port: SerialPort,
        address: int,
        key: bytes | None,
        serial: int,
        panel: Panel,
        *,
        install: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `install` it serves the default key until the controller has set one; otherwise it needs
        `key`. Raises DoorError.
        """
        if install != (key is None):
            raise DoorError("no line to the controller without a key, and no installation with one")
        if key is not None and (why := weakness(key)):
            raise DoorError(f"the controller's key is refused: {why}")
        self._port = port
        self.channel = Channel(port, address, now_s=now_s)
        """Counts damaged and repeated frames."""
        self._panel = panel
        self._now_s = now_s
        self._secure = False
        self._submitted_s: float | None = None
        self._looked_s = now_s()
        self._lock = threading.Lock()
        super().__init__("osdp")
        osdp = _library()
        osdp.set_loglevel(osdp.LOG_EMERG)
        self._osdp = osdp
        flags = osdp.FLAG_INSTALL_MODE if install else osdp.FLAG_ENFORCE_SECURE
        info = {
            "name": "ostiary",
            "address": address,
            "flags": flags | osdp.FLAG_ENABLE_NOTIFICATION,
            "scbk": key,  # None, only here where it is asked for, is the library's install mode
            "channel": self.channel,
            "version": 1,
            "model": 1,
            "vendor_code": VENDOR,
            "serial_number": serial,
            "firmware_version": 0x010000,
        }
        self._device = osdp.PeripheralDevice(info, capabilities=_capabilities(osdp))
        self._device.set_command_callback(self._commanded)
        self._device.set_event_completion_callback(lambda event, status: self._completed())

    def _ended(self) -> None:
        self._port.close()

    @property
    def secure(self) -> bool:
        """Whether the secure channel to the controller is up."""
        return self._secure

    @property
    def port_lost(self) -> bool:
        """Whether the port must be opened again."""
        return bool(self._port.lost)

    def trouble(self) -> str:
        """What is wrong with the line; empty when nothing is."""
        return self._port.lost or ("" if self._secure else "the controller is not connected securely")

    def stuck(self) -> str:
        silent_s = self._now_s() - self._looked_s
        return f"the controller was not answered for {silent_s:.0f} s" if silent_s > STUCK_S else ""

    def send_card(self, card: CardBits) -> bool:
        """Hand the card to the controller; False when it is away, and the card is dropped."""
        return self._submit(
            {
                "event": self._osdp.EVENT_CARDREAD,
                "reader_no": 0,
                "direction": 0,
                "format": self._osdp.CARD_FMT_RAW_WIEGAND,
                "data": card.data,
                "length": card.count,
            }
        )

    def send_reply(self, data: bytes) -> bool:
        """A manufacturer's reply of ours, at most 64 bytes."""
        if len(data) > MAX_REPLY_BYTES:
            raise ValueError(f"a reply has at most {MAX_REPLY_BYTES} bytes, not {len(data)}")
        return self._submit({"event": self._osdp.EVENT_MFGREP, "vendor_code": VENDOR, "data": data})

    def send_status(self, tampered: bool) -> bool:
        """The state of the unit's case; the second byte, of its supply, is always well."""
        report = bytes((int(tampered), 0))
        return self._submit(
            {"event": self._osdp.EVENT_STATUS, "type": self._osdp.STATUS_REPORT_LOCAL, "report": report}
        )

    def _submit(self, event: dict[str, Any]) -> bool:
        with self._lock:
            if not self._secure or self._port.lost:
                log.warning("the controller is away; what was meant for it is dropped")
                return False
            if self._submitted_s is None:
                self._submitted_s = self._now_s()
            return self._device.submit_event(event) in (0, True, None)

    def _completed(self) -> None:
        self._submitted_s = None

    def _run(self) -> None:
        while not self._stop.wait(REFRESH_S):
            try:
                with self._lock:
                    self._device.refresh()
                    secure = bool(self._device.is_sc_active()) and not self._port.lost
                    late = self._submitted_s is not None and self._now_s() - self._submitted_s > STALE_S
                    if late or (self._secure and not secure):
                        self._device.flush_events()
                        self._submitted_s = None
                    changed, self._secure = secure != self._secure, secure
                if changed:
                    self._panel.online(secure)
                self._looked_s = self._now_s()
            except Exception:  # a supervisor: an answer that fails must not end the line
                log.exception("serving the controller failed once; it goes on")
                self._stop.wait(1.0)

    def _commanded(self, command: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """Called by the library inside `refresh`; it would print and forget an exception."""
        try:
            return (0 if self._obeyed(command) else -1), None
        except Exception:
            log.exception("a command of the controller was refused")
            return -1, None

    def _obeyed(self, command: dict[str, Any]) -> bool:
        osdp, kind = self._osdp, command.get("command")
        if kind == osdp.CMD_KEYSET:
            key = bytes(command["data"])
            return len(key) == KEY_BYTES and self._panel.key_offered(key)
        if kind == osdp.CMD_LED:
            self._panel.commanded(Light(_COLOURS.get(int(command.get("on_color", 0)), "none")))
        elif kind == osdp.CMD_BUZZER:
            self._panel.commanded(Beep())
        elif kind == osdp.CMD_TEXT:
            raw = command.get("data", b"")
            text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(raw)
            self._panel.commanded(Text("".join(c if c.isprintable() else " " for c in text[:32])))
        elif kind == osdp.CMD_MFG:
            if command.get("vendor_code") != VENDOR:
                return False
            self._panel.commanded(Asked(bytes(command.get("data", b""))))
        else:
            return False
        return True


_COLOURS = {0: "none", 1: "red", 2: "green", 3: "amber", 4: "blue", 5: "magenta", 6: "cyan", 7: "white"}


def _capabilities(osdp: Any) -> list[dict[str, int]]:
    """What this reader can do. No biometrics: no controller's library knows those commands."""
    table = (
        (osdp.CAP_CARD_DATA_FORMAT, 1, 0),
        (osdp.CAP_READER_LED_CONTROL, 1, 1),
        (osdp.CAP_READER_AUDIBLE_OUTPUT, 1, 1),
        (osdp.CAP_READER_TEXT_OUTPUT, 1, 1),
        (osdp.CAP_CHECK_CHARACTER_SUPPORT, 1, 0),
        (osdp.CAP_COMMUNICATION_SECURITY, 1, 0),
    )
    return [
        {"function_code": code, "compliance_level": level, "num_items": items} for code, level, items in table
    ]


def _library() -> Any:
    try:
        import osdp_sys
    except ImportError as err:
        raise DoorError("the library libosdp is missing; run `scripts/setup`") from err
    return osdp_sys
