"""Leaves the print of an attempt for the registry, enciphered to the tenant, in a folder of a few files.

Nothing is left before the registry has sent a first list of threats: it names the key to encipher to. A print
of a failed attempt goes with its event's number. Of granted attempts a few leave theirs too, with no number
and no sooner than sixteen have been granted, so that none can be told to be anybody's.
"""

from __future__ import annotations

import hashlib
import logging
import random
from contextlib import suppress
from pathlib import Path

import cbor2

from device.errors import DeviceError
from device.liveness.threats.known import KnownAttacks
from device.secure_store.exchange import seal_to
from sync.durable import replace_file
from sync.errors import SyncError
from sync.events import UnitId
from sync.plain_file import open_plain
from sync.plain_words import what_and_why, why
from sync.threats.listed import MAX_LIST_BYTES
from sync.threats.prints import MODEL, Print, print_info

MOST_LEFT = 256
"""Files: what is older goes when no registry fetches them. The events stay, whatever becomes of prints."""
GATHERED = 16
SENT_OF_GATHERED = 2
GRANTED = frozenset({"GRANTED"})
FAILED = frozenset({"DENIED_SPOOF", "DENIED_REPLAY", "DENIED_VOICE", "DENIED_PHRASE", "STEP_UP"})
LIST, HELD, LEFT = "list", "held", ".print"

log = logging.getLogger(__name__)


class PrintBox:
    """The door's side of the folder that it shares with the uplink (`device/uplink/letters/prints.py`)."""

    def __init__(self, folder: Path, unit: UnitId, threats: KnownAttacks) -> None:
        self._folder = folder
        self._unit = unit
        self._threats = threats
        self._gathered: list[bytes] = []
        self._dice = random.SystemRandom()

    def leave(self, sequence: int, outcome: str, print_values: bytes) -> None:
        """Note how a decided attempt was seen. What goes wrong here is told, and holds up nobody."""
        try:
            if outcome in GRANTED and print_values:
                self._threats.granted(print_values)
                self._gather(print_values)
            elif outcome in FAILED and sequence and print_values:
                self._put(sequence, print_values)
        except (DeviceError, SyncError, OSError) as err:
            log.warning("the print of an attempt was not kept: %s", what_and_why(err))

    def delivered(self) -> bytes:
        """The list of threats that the uplink brought. Raises DeviceError when there is none."""
        try:
            with open_plain(self._folder / LIST) as file:
                return file.read(MAX_LIST_BYTES + 1)
        except OSError as err:
            raise DeviceError(f"no list of threats was brought ({why(err)})") from err

    def hold(self, version: int) -> None:
        """Tell the uplink which list is in force."""
        with suppress(OSError):
            replace_file(self._folder / HELD, str(version).encode(), 0o640, durable=False)

    def _gather(self, print_values: bytes) -> None:
        self._gathered.append(print_values)
        if len(self._gathered) >= GATHERED:
            chosen = self._dice.sample(self._gathered, SENT_OF_GATHERED)
            self._gathered.clear()
            self._threats.keep()
            for one in chosen:
                self._put(0, one)

    def _put(self, sequence: int, print_values: bytes) -> None:
        ours = self._threats.in_force()
        if ours is None:
            return
        found = Print(MODEL, print_values)
        sealed = seal_to(ours.key(), found.to_bytes(), print_info(self._unit))
        self._folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        kept = sorted(self._folder.glob(f"*{LEFT}"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: max(0, len(kept) - MOST_LEFT + 1)]:
            path.unlink(missing_ok=True)
        name = hashlib.sha256(sealed).hexdigest() + LEFT
        replace_file(self._folder / name, cbor2.dumps([sequence, sealed]), 0o660)
