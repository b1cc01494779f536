"""A unit's memory of its fleet: which enrolment it holds of whom, and who must never come back.

Each document has one enciphered file, and the vault pins which counts: neither an older file nor an older
disk brings anybody back. The file names people by a keyed hash.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import cbor2

from device.errors import DeviceError
from device.model_store.minimum_versions import pinned_document, with_document
from device.secure_store import Store
from device.secure_store.voiceprints.vault_file import write_durably
from sync.durable import sync_folder
from sync.plain_file import plain_bytes

_LABEL = "fleet memory"
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
        """The keyed hash that names a person here."""
        return hmac.digest(self._store.mac("fleet tag", b"person"), uid.encode(), "sha256")[:16]

    def stage(self, known: Known) -> bytes:
        """Write `known`, which counts once the vault pins the bytes that this returns."""
        body = cbor2.dumps([known.document, {t: list(v) for t, v in known.held.items()}, dict(known.gone)])
        with self._store.vault.derive(_LABEL) as key:
            sealed = key.encrypt(body, _bound(known.document))
        write_durably(self._path(known.document), sealed)
        return with_document(self._store.vault, known.document)

    def settle(self, known: Known) -> None:
        """After the commit: `known` counts, and older files go."""
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
            with self._store.vault.derive(_LABEL) as key:
                body = key.decrypt(data, _bound(document))
            number, held, gone = cbor2.loads(body)  # authenticated: we wrote it
        except (OSError, ValueError) as err:
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
