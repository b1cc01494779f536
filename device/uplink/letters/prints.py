"""The uplink's side of prints: sends those that the door left until the registry has them; brings threat
lists.

The prints are enciphered to the tenant: this process signs and sends them, and cannot read them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from sync.cbor import decode
from sync.durable import replace_file
from sync.errors import MalformedError, SyncError
from sync.events import Signer, UnitId
from sync.plain_file import open_plain, plain_bytes
from sync.plain_words import why
from sync.threats.listed import ThreatList
from sync.threats.prints import MAX_SEALED_BYTES, SealedPrint, open_kept
from sync.transport.agent import Mail
from sync.transport.topics import KEPT, PRINTS

LIST, HELD, LEFT = "list", "held", ".print"
"""As `device/liveness/threats/print_box.py` names them."""
LOOK_EVERY_S = 0.5
AT_ONCE = 4
"""Prints in one look: a TPM takes 100 ms and more to sign each."""
SAY_AGAIN_S = 60.0


class PrintMail:
    """`sync.transport.agent.Mail` for one channel."""

    def __init__(self, folder: Path, unit: UnitId, signer: Signer, registry_key: ec.EllipticCurvePublicKey):
        self._folder, self._unit, self._signer, self._key = folder, unit, signer, registry_key
        self._said: dict[str, float] = {}
        self._looked_at = float("-inf")
        self._connections = 0

    def take(self, channel: str, payload: bytes) -> None:
        """Remove prints that the registry has. Raises SyncError."""
        for name in open_kept(payload, self._key, self._unit):
            try:
                (self._folder / (name.hex() + LEFT)).unlink(missing_ok=True)
            except OSError as err:
                raise SyncError(f"a print cannot be removed ({why(err)})") from err
            self._said.pop(name.hex() + LEFT, None)

    def due(self, now_s: float, connections: int) -> list[tuple[str, bytes]]:
        """A few prints to publish now; again after a minute, or on a new connection."""
        if connections != self._connections:
            self._connections = connections
            self._said.clear()
        if now_s < self._looked_at + LOOK_EVERY_S:
            return []
        self._looked_at = now_s
        waiting = sorted(path.name for path in self._folder.glob(f"*{LEFT}"))
        self._said = {name: at for name, at in self._said.items() if name in set(waiting)}
        due = [name for name in waiting if now_s >= self._said.get(name, float("-inf")) + SAY_AGAIN_S]
        letters = []
        for name in due[:AT_ONCE]:
            self._said[name] = now_s
            sealed = self._read(self._folder / name)
            if sealed is not None:
                letters.append((PRINTS, sealed.signed(self._signer)))
        return letters

    def deliver(self, data: bytes) -> None:
        """Leave a threat list for the door, which checks it again. Raises SyncError."""
        ThreatList.from_bytes(data)
        try:
            self._folder.mkdir(mode=0o770, parents=True, exist_ok=True)
            replace_file(self._folder / LIST, data, 0o660)
        except OSError as err:
            raise SyncError(f"a list of threats cannot be kept ({why(err)})") from err

    def _read(self, path: Path) -> SealedPrint | None:
        """A print that the door left; another file is removed."""
        try:
            with open_plain(path) as file:
                found = decode(file.read(MAX_SEALED_BYTES + 64), MAX_SEALED_BYTES + 32)
            if type(found) is not list or len(found) != 2:
                raise MalformedError("not a print")
            return SealedPrint(self._unit, *found)
        except MalformedError:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        except OSError:
            pass
        return None


class Letters:
    """All mail of a unit, sorted by channel. `sync.transport.agent.Mail`."""

    def __init__(self, door: Mail, prints: PrintMail) -> None:
        self._door, self._prints = door, prints

    def take(self, channel: str, payload: bytes) -> None:
        mail: Mail = self._prints if channel == KEPT else self._door
        mail.take(channel, payload)

    def due(self, now_s: float, connections: int) -> list[tuple[str, bytes]]:
        return [*self._door.due(now_s, connections), *self._prints.due(now_s, connections)]


def held_list(folder: Path) -> int:
    """The version of the threat list in force at the door; 0 without one."""
    try:
        return max(0, int(plain_bytes(folder / HELD, 20)))
    except (OSError, ValueError):
        return 0
