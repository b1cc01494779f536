"""What a unit remembers of its fleet: who it holds by which enrolment, and who must never come back.

One enciphered file for each document; the vault pins which document's file counts, so neither an older file
nor an older disk brings anybody back. People stand in it by a keyed hash.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.errors import DeviceError
from device.model_store.minimum_versions import pinned_document, with_document
from device.secure_store import Store
from device.secure_store.voiceprints.vault_file import write_durably
from sync.durable import sync_folder
from sync.plain_file import plain_bytes

_LABEL = "fleet memory"
_NONCE_BYTES = 12
MAX_MEMORY_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Known:
    """`held`: tag -> (number of the enrolment, its version in the vault); `gone`: tag -> number."""

    document: int = 0
    held: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    gone: Mapping[bytes, int] = field(default_factory=dict)

    def forgotten(self, tag: bytes, number: int) -> bool:
        """Whether this enrolment, or a later one of the same person, was forgotten here."""
        return number <= self.gone.get(tag, 0)


class FleetMemory:
    """`known` is what counts now. Only the door process writes."""

    def __init__(self, folder: Path, store: Store) -> None:
        """Raises DeviceError."""
        self._folder = folder
        self._store = store
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.known = self._read(pinned_document(store.vault))

    def tag(self, uid: str) -> bytes:
        """A person's name in here."""
        return hmac.digest(self._store.mac("fleet tag", b"person"), uid.encode(), "sha256")[:16]

    def stage(self, known: Known) -> bytes:
        """Write what will count once the vault pins the bytes that this returns, and not before."""
        body = cbor2.dumps([known.document, {t: list(v) for t, v in known.held.items()}, dict(known.gone)])
        nonce = os.urandom(_NONCE_BYTES)
        with self._store.vault.derive(_LABEL) as key, key.view() as raw:
            sealed = nonce + AESGCM(raw).encrypt(nonce, body, _bound(known.document))
        write_durably(self._path(known.document), sealed)
        return with_document(self._store.vault, known.document)

    def settle(self, known: Known) -> None:
        """After the commit: what was staged counts, and what counted before goes."""
        self.known = known
        for path in self._folder.glob("memory-*.bin"):
            if path != self._path(known.document):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            sync_folder(self._folder)

    def _read(self, document: int) -> Known:
        if not document:
            return Known()
        try:
            data = plain_bytes(self._path(document), MAX_MEMORY_BYTES)
            with self._store.vault.derive(_LABEL) as key, key.view() as raw:
                body = AESGCM(raw).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound(document))
            number, held, gone = cbor2.loads(body)  # authenticated: we wrote it
        except (OSError, InvalidTag, ValueError) as err:
            raise DeviceError(
                "what this unit knew of its fleet is missing, damaged or older than its vault; "
                "start an empty store, and have the fleet send everybody anew"
            ) from err
        known = Known(number, {t: (v[0], v[1]) for t, v in held.items()}, gone)
        return replace(known, document=document)

    def _path(self, document: int) -> Path:
        return self._folder / f"memory-{document}.bin"


def _bound(document: int) -> bytes:
    return b"ostiary fleet memory v1\0" + document.to_bytes(8)
