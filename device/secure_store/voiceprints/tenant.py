"""The tenant's pseudonym key: the same on all units of one operator, enciphered under the sealed key.

It gives a person one pseudonym at all of the tenant's doors, so that the registry sees one voice in two
places. Without it a unit uses its own key, and nobody can link it to another unit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device.secure_store.errors import StoreError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.vault_file import write_durably
from sync.plain_file import plain_bytes

KEY_BYTES = 32
FILE = "tenant-key.bin"
_BOUND = b"ostiary tenant pseudonym key v1"
_LABEL = "tenant key"


def keep_tenant_key(folder: Path, derive: Callable[[str], SecretBytes], key: bytes) -> None:
    """Take the tenant's key into the store; the unit uses it from its next start. Raises StoreError."""
    if len(key) != KEY_BYTES or len(set(key)) < 8:
        raise StoreError(
            f"a tenant's key is {KEY_BYTES} random bytes; `ostiary store new-tenant-key` makes one"
        )
    with derive(_LABEL) as secret:
        write_durably(folder / FILE, secret.encrypt(key, _BOUND))


def tenant_key(folder: Path, derive: Callable[[str], SecretBytes]) -> bytes | None:
    """The tenant's key, or None where none was given. Raises StoreError when the file is not this unit's."""
    path = folder / FILE
    if not path.exists():
        return None
    sealed = plain_bytes(path)[: 4 * KEY_BYTES]
    with derive(_LABEL) as secret:
        try:
            return secret.decrypt(sealed, _BOUND)
        except ValueError as err:
            raise StoreError(
                f"{path.name} is damaged or another unit's; give the unit its key again"
            ) from err
