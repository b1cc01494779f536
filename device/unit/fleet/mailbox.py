"""The folder that door process and uplink share: messages of the fleet, answers of the unit.

Neither process trusts the other: the door checks every byte again, and signs its answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from device.state_folder import StateFolder
from device.unit.fleet.applied import Standing
from sync.cose import MAX_SIGN1_BYTES
from sync.durable import Watched, replace_file
from sync.orders.desired import Part
from sync.plain_file import open_plain


class Mailbox:
    """The door's side of it. `device/uplink/letters/mail.py` has the other."""

    def __init__(self, state: Path) -> None:
        self._folder = StateFolder(state).desired
        for folder in (self._folder, self._folder / "parts"):
            folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        self._document = Watched(self._folder / "document", MAX_SIGN1_BYTES + 1)
        self._told: dict[str, bytes] = {}

    def document(self) -> bytes:
        """The newest document that came, or nothing."""
        return self._document.read()

    def path(self, part: Part) -> Path:
        """The file of a part, once it has come."""
        return self._folder / "parts" / part.sha256.hex()

    def read(self, part: Part) -> bytes | None:
        """The content of a part; None where it is missing or not what its hash says."""
        path = self.path(part)
        try:
            with open_plain(path) as file:
                data = file.read(part.size + 1)
        except OSError:
            return None
        if part.holds(data):
            return data
        path.unlink(missing_ok=True)
        return None

    def ask(self, parts: Iterable[Part]) -> None:
        """Have the uplink fetch these, and drop what is not among them."""
        wanted = {part.sha256.hex(): part.size for part in parts}
        self._tell("wanted.json", json.dumps(wanted, sort_keys=True).encode())

    def keep_only(self, parts: Iterable[Part]) -> None:
        names = {part.sha256.hex() for part in parts}
        for path in (self._folder / "parts").iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def say(self, statement: bytes) -> None:
        """Have the uplink send this statement repeatedly until the next one; empty ends that."""
        self._tell("statement", statement)

    def report(self, standing: Standing, held: tuple[int, int], over: tuple[int, int] | None = None) -> None:
        """`held` counts the unit's people, and those with a number of the fleet; `over` those who have come
        over to the newer of two speaker models, and those who have not.
        """
        told: dict[str, object] = {**asdict(standing), "people": held[0], "fleet_people": held[1]}
        if over is not None:
            told |= {"over": over[0], "not_over": over[1]}
        self._tell("standing.json", json.dumps(told).encode())

    def _tell(self, name: str, data: bytes) -> None:
        if self._told.get(name) != data:
            replace_file(self._folder / name, data, 0o640)
            self._told[name] = data
