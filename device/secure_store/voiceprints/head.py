"""The head of the vault: which records exist, at which counter, vouched for by one MAC. Pure."""

from __future__ import annotations

import hmac
import struct
import uuid
from dataclasses import dataclass

from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.records import DIGEST_BYTES

MAGIC = b"OSTVLT01"
MAGIC_PINNED = b"OSTVLT02"
_FIXED = struct.Struct(">8s16sQQI")
_PINNED_SIZE = struct.Struct(">H")
_ENTRY_BYTES = 16 + DIGEST_BYTES
_MAC_BYTES = 32
MAX_PEOPLE = 200_000
MAX_PINNED_BYTES = 256


@dataclass(frozen=True, slots=True)
class Head:
    """The only statement about the whole vault. `counter` rises by one with every commit."""

    unit: uuid.UUID
    counter: int
    epoch: int
    roster: dict[uuid.UUID, bytes]
    """Record id -> digest of the row that is current."""
    pinned: bytes = b""
    """What another part of the unit must never see go back; it has the vault's counter without a file of its
    own. A head without any is written as it was before there was such a thing."""

    def to_bytes(self, mac_key: SecretBytes) -> bytes:
        entries = b"".join(i.bytes + digest for i, digest in sorted(self.roster.items()))
        magic = MAGIC_PINNED if self.pinned else MAGIC
        body = _FIXED.pack(magic, self.unit.bytes, self.counter, self.epoch, len(self.roster))
        if self.pinned:
            body += _PINNED_SIZE.pack(len(self.pinned)) + self.pinned
        body += entries
        with mac_key.view() as key:
            return body + hmac.digest(key, body, "sha256")

    @classmethod
    def from_bytes(cls, data: bytes, mac_key: SecretBytes) -> Head:
        """Raises ValueError unless the MAC is right and the form is exact."""
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        with mac_key.view() as key:
            if not hmac.compare_digest(mac, hmac.digest(key, body, "sha256")):
                raise ValueError("the vault's head does not verify")
        if len(body) < _FIXED.size:
            raise ValueError("the vault's head is cut short")
        magic, unit, counter, epoch, people = _FIXED.unpack_from(body)
        start, pinned = _FIXED.size, b""
        if magic == MAGIC_PINNED and len(body) >= start + _PINNED_SIZE.size:
            (size,) = _PINNED_SIZE.unpack_from(body, start)
            start += _PINNED_SIZE.size
            pinned = body[start : start + size]
            start += size
        known = magic == MAGIC or pinned
        if not known or people > MAX_PEOPLE or len(body) != start + people * _ENTRY_BYTES:
            raise ValueError("the vault's head has another form")
        roster = {}
        for at in range(start, len(body), _ENTRY_BYTES):
            roster[uuid.UUID(bytes=body[at : at + 16])] = body[at + 16 : at + _ENTRY_BYTES]
        return cls(uuid.UUID(bytes=unit), counter, epoch, roster, pinned)
