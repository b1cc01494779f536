"""A door with a hospital's own controller, which moves the strike or is told of decisions."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator

from device.access.badges import CardBits
from device.access.decision import Decision, Outcome
from device.background import Background
from device.door.lines import DoorError
from device.door.osdp.peripheral import Asked, Beep, Command, Light, Panel, Peripheral, Text
from device.door.osdp.settings import OsdpMode
from device.door.supervised import Note, SupervisedDoor
from sync.errors import SyncError

REOPEN_S = 2.0
CLAIM, VERDICT = 0x01, 0x81
"""First bytes of our manufacturer's command (then a badge number) and reply (then a verdict)."""
REFUSED, GRANTED, AGAIN = 0, 1, 2
MAX_CLAIMS = 4
_AGAIN = {Outcome.STEP_UP, Outcome.DENIED_QUALITY, Outcome.AWAITING_SECOND_PERSON}

log = logging.getLogger(__name__)


class OsdpDoor(Background):
    """A Door that talks to a controller. The line runs from entry to exit; a lost port is opened again.
    Without a secure channel nothing is sent, and where the controller moves the strike nothing opens.
    """

    def __init__(
        self,
        mode: OsdpMode,
        local: Callable[[Note], SupervisedDoor],
        connect: Callable[[Panel], Peripheral],
        *,
        note: Note,
        card_of: Callable[[str], CardBits | None],
        show: Callable[[str], None],
        display: Callable[[str, str], None],
    ) -> None:
        """`local` makes the door's own lines, `connect` opens the port or raises DoorError, `card_of` gives a
        person's card, `display` shows the controller's colour and text.
        """
        self._mode = mode
        self._local = local(self._noted)
        self._connect = connect
        self._note = note
        self._card_of = card_of
        self._show = show
        self._display = display
        self._peripheral: Peripheral | None = None
        self._why = "the controller is not connected yet"
        self._colour, self._text = "none", ""
        self._tampered = False
        self._claims: queue.Queue[str] = queue.Queue(MAX_CLAIMS)
        super().__init__("osdp-port")

    def _begin(self) -> None:
        self._local.__enter__()
        self._open()

    def _ended(self) -> None:
        self._close()
        self._local.__exit__(None, None, None)

    def fire(self) -> bool:
        """Whether the fire input is active."""
        return self._local.fire()

    def trouble(self) -> str:
        """What is wrong with the hardware; empty when nothing is."""
        peripheral = self._peripheral
        line = self._why if peripheral is None else peripheral.trouble()
        return "; ".join(filter(None, (self._local.trouble(), line)))

    def stuck(self) -> str:
        peripheral = self._peripheral
        return self._local.stuck() or ("" if peripheral is None else peripheral.stuck())

    def obey(self, decision: Decision) -> None:
        """Carry out a decision as this mode says; what the controller cannot take now is dropped."""
        if self._mode is OsdpMode.REPORT:
            self._local.obey(decision)
            self._tell(decision)
        elif self._mode is OsdpMode.CLAIM_FROM_PANEL:
            self._tell(decision)
        elif decision.opens and decision.outcome is not Outcome.EMERGENCY_RELEASE:
            self._present(decision.person or "")
        else:
            self._show("nothing is sent to the controller")

    def lock(self) -> None:
        """Lock the unit's own strike."""
        self._local.lock()

    def hold(self, for_s: float) -> None:
        """Hold the unit's own strike; raises DoorError where the controller has it."""
        if self._mode is OsdpMode.REPORT:
            self._local.hold(for_s)
        elif for_s > 0.0:
            raise DoorError("the controller holds this strike, so the door cannot be held from here")

    def close(self) -> None:
        self._local.close()

    def claims(self, waiting: Callable[[], None], wait_s: float) -> Iterator[str]:
        """Badge numbers that the controller has read and asks about, until the door is left."""
        while not self._stop.is_set():
            waiting()
            try:
                yield self._claims.get(timeout=wait_s)
            except queue.Empty:
                continue

    # Called from the line's thread for what the controller does.

    def commanded(self, command: Command) -> None:
        if isinstance(command, Asked):
            self._asked(command.data)
            return
        if isinstance(command, Text):
            self._text = command.text.strip()
        elif isinstance(command, Light):
            self._colour = command.colour
        self._display("amber" if isinstance(command, Beep) else self._colour, self._text)

    def online(self, secure: bool) -> None:
        self._noted("FAULT" if not secure else "COMMAND_APPLIED", "panel_back" if secure else "panel_lost")
        if secure and self._tampered:
            self._status()

    def key_offered(self, key: bytes) -> bool:
        """Refuse: a key is set at installation only (`ostiary door osdp-install`)."""
        log.warning("the controller tried to set a new key and was refused")
        self._noted("FAULT", "key_refused")
        return False

    def _asked(self, data: bytes) -> None:
        if self._mode is not OsdpMode.CLAIM_FROM_PANEL or not data or data[0] != CLAIM:
            log.warning("the controller asked something that this door does not answer")
            return
        try:
            self._claims.put_nowait(data[1:].decode("ascii", "replace"))
        except queue.Full:
            log.warning("the controller asked about too many people at once; one is dropped")

    def _present(self, person: str) -> None:
        card = self._card_of(person)
        if card is None:
            self._show("no card: the rules have no `card` for this person, so the controller is not asked")
            log.error("a person without `card` in the rules was granted; the controller cannot be asked")
            return
        peripheral = self._peripheral
        sent = peripheral is not None and peripheral.send_card(card)
        self._show("card sent to the controller" if sent else "the controller is away; nothing is sent")

    def _tell(self, decision: Decision) -> None:
        verdict = GRANTED if decision.opens else AGAIN if decision.outcome in _AGAIN else REFUSED
        # Duress opens like a grant, and somebody who reads along must not see a difference.
        outcome = Outcome.GRANTED if decision.outcome is Outcome.DURESS else decision.outcome
        peripheral = self._peripheral
        reply = bytes((VERDICT, verdict)) + str(outcome).encode()
        if peripheral is None or not peripheral.send_reply(reply):
            self._show("the controller is away; it is not told")

    def _noted(self, kind: str, reason: str) -> None:
        """Log an event of the door's own lines; the controller is told of tampering."""
        if kind in ("TAMPER", "TAMPER_ENDED"):
            self._tampered = kind == "TAMPER"
            self._status()
        try:
            self._note(kind, reason)
        except SyncError:
            if kind not in ("FAULT", "COMMAND_APPLIED"):
                raise  # the door's own lines keep it and try again
            log.exception("%s %s could not be written down", kind, reason)

    def _status(self) -> None:
        if (peripheral := self._peripheral) is not None:
            peripheral.send_status(self._tampered)

    def _run(self) -> None:
        while not self._stop.wait(REOPEN_S):
            peripheral = self._peripheral
            if peripheral is not None and not peripheral.port_lost:
                continue
            try:
                self._close()
                self._open()
            except Exception:  # a supervisor: the line is opened again, whatever went wrong
                log.exception("opening the line to the controller failed once; it is tried again")

    def _open(self) -> None:
        try:
            self._peripheral = self._connect(self).__enter__()
        except DoorError as err:
            if str(err) != self._why:
                log.error("%s", err)
            self._why = str(err)

    def _close(self) -> None:
        peripheral, self._peripheral = self._peripheral, None
        if peripheral is not None:
            peripheral.__exit__(None, None, None)
