"""The uplink's side of the folder it shares with the door: documents and parts in, statements out."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from sync.cose import MAX_SIGN1_BYTES
from sync.durable import Watched, move_file, replace_file
from sync.errors import MalformedError, ProofError, SyncError
from sync.events import UnitId
from sync.orders.desired import MAX_STATEMENT_BYTES, open_desired
from sync.orders.parts import Chunk, Want
from sync.plain_file import check_plain_or_new, open_plain, plain_bytes
from sync.plain_words import why
from sync.transport.topics import DESIRED, PARTS, STATEMENTS, WANTS

ASK_AGAIN_S = 5.0
SAY_AGAIN_S = 30.0
MAX_WANTED_BYTES = 4 << 20
MAX_STANDING_BYTES = 4096
LOOK_EVERY_S = 0.1
_HASH = re.compile(r"[0-9a-f]{64}")
AT_ONCE = 4
"""How many parts are on their way at a time."""


class DoorMail:
    """`sync.transport.agent.Mail` of one unit; takes only what the unit asked for, to spare its disk."""

    def __init__(
        self,
        folder: Path,
        unit: UnitId,
        key: ec.EllipticCurvePublicKey,
        now_ms: Callable[[], int],
        changed: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is called when the door has reported something new about itself."""
        self._folder, self._unit, self._key, self._now_ms = folder, unit, key, now_ms
        self._changed = changed
        self._now_s = now_s
        self._asked: dict[str, float] = {}
        self._wanted: dict[str, int] = {}
        self._looked_at = 0.0
        self._said = b""
        self._said_at = float("-inf")
        self._connections = 0
        self._standing = b""
        self._standing_file = Watched(folder / "standing.json", MAX_STANDING_BYTES)
        self._statement_file = Watched(folder / "statement", MAX_STATEMENT_BYTES + 4096)
        self._wanted_file = Watched(folder / "wanted.json", MAX_WANTED_BYTES)
        self._wanted_said = b""

    def take(self, channel: str, payload: bytes) -> None:
        """Keep a message. Raises SyncError for one that is not ours, in force, or asked for."""
        if channel == DESIRED:
            desired = open_desired(payload, self._key, self._unit, self._now_ms())
            held = self._held()
            if desired.counter <= held:
                raise ProofError("this document came before, or a newer one was taken already")
            self._write(self._folder / "document", payload)
        elif channel == PARTS:
            self._piece(Chunk.from_bytes(payload))
        else:
            raise SyncError("this channel carries no messages to units")

    def due(self, now_s: float, connections: int) -> list[tuple[str, bytes]]:
        """Messages to publish: wishes for parts, and the statement when it is new or due again."""
        if connections != self._connections:
            self._connections, self._said_at = connections, float("-inf")
            self._asked.clear()
        if now_s < self._looked_at + LOOK_EVERY_S:
            return []
        self._looked_at = now_s
        self._look_at_standing()
        return [*self._wishes(now_s), *self._statement(now_s)]

    def _wishes(self, now_s: float) -> list[tuple[str, bytes]]:
        wanted = self._read_wanted()
        self._asked = {name: at for name, at in self._asked.items() if name in wanted}
        wishes = []
        for name, size in wanted.items():
            if (self._folder / "parts" / name).exists():
                continue
            if now_s < self._asked.get(name, float("-inf")) + ASK_AGAIN_S:
                continue
            if sum(now_s < at + ASK_AGAIN_S for at in self._asked.values()) >= AT_ONCE:
                break
            self._asked[name] = now_s
            offset = self._begun(name)
            if offset >= size:  # the last piece came, and then the process was killed or the disk failed
                with suppress(SyncError):
                    self._take_whole(name)
                offset = self._begun(name)
            if offset < size and not (self._folder / "parts" / name).exists():
                wishes.append((WANTS, Want(bytes.fromhex(name), offset).to_bytes()))
        return wishes

    def _statement(self, now_s: float) -> list[tuple[str, bytes]]:
        said = self._statement_file.read()
        if not said or (said == self._said and now_s < self._said_at + SAY_AGAIN_S):
            return []
        self._said, self._said_at = said, now_s
        return [(STATEMENTS, said)]

    def _piece(self, chunk: Chunk) -> None:
        name = chunk.part.sha256.hex()
        if self._wanted.get(name) != chunk.part.size:
            raise MalformedError("this unit did not ask for that part")
        path = self._folder / "parts" / name
        draft = path.with_suffix(".partial")
        if path.exists() or self._begun(name) != chunk.offset:
            return  # it came twice
        try:
            with check_plain_or_new(draft).open("ab") as file:
                file.write(chunk.data)
            self._asked.pop(name, None)  # the next piece is asked for at once
            self._looked_at = float("-inf")
        except OSError as err:
            raise SyncError(f"a part cannot be kept ({why(err)})") from err
        if chunk.offset + len(chunk.data) >= chunk.part.size:
            self._take_whole(name)

    def _take_whole(self, name: str) -> None:
        """Keep a part whose last piece came, or remove one with another hash. Raises SyncError."""
        path = self._folder / "parts" / name
        draft = path.with_suffix(".partial")
        try:
            with open_plain(draft) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != name:
                draft.unlink()
                raise ProofError("a part does not have the hash that names it; the unit asks for it again")
            draft.chmod(0o660)
            move_file(draft, path)
        except OSError as err:
            raise SyncError(f"a part cannot be kept ({why(err)})") from err

    def _begun(self, name: str) -> int:
        try:
            return (self._folder / "parts" / name).with_suffix(".partial").stat().st_size
        except OSError:
            return 0

    def _read_wanted(self) -> dict[str, int]:
        said = self._wanted_file.read()
        if said is not self._wanted_said:
            self._wanted_said = said
            try:
                told = json.loads(said)
                self._wanted = {str(name): int(size) for name, size in told.items() if _HASH.fullmatch(name)}
            except (ValueError, TypeError, AttributeError):
                self._wanted = {}
        return self._wanted

    def _held(self) -> int:
        """The number of the newest document that came and is in force; else 0."""
        with suppress(OSError, SyncError):
            held = plain_bytes(self._folder / "document", MAX_SIGN1_BYTES)
            return open_desired(held, self._key, self._unit, self._now_ms()).counter
        return 0

    def _look_at_standing(self) -> None:
        told = self._standing_file.read()
        if told != self._standing:
            self._standing = told
            self._changed()

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o770, parents=True, exist_ok=True)
            replace_file(path, data, 0o660)
        except OSError as err:
            raise SyncError(f"the document cannot be kept ({why(err)})") from err
