"""The store of one unit: vault, keys, counters and signatures."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from device.secure_store.errors import StoreError
from device.secure_store.keystore import BlockCounter, Keystore, KeystoreStatus, checked_counter
from device.secure_store.memory import SecretBytes, guard_memory
from device.secure_store.settings import StoreSettings
from device.secure_store.software import SoftwareKeystore
from device.secure_store.voiceprints.first_values import FIRST_VALUES, first_value
from device.secure_store.voiceprints.tenant import keep_tenant_key, tenant_key
from device.secure_store.voiceprints.vault import Clock, Vault, VaultStatus
from device.state_folder import StateFolder
from sync.events import Counter, Signer

_INTERNAL = ("vault", "epoch")


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """`warning` is shown in red and belongs in every audit event while it is not None."""

    vault: VaultStatus
    keystore: KeystoreStatus
    warning: str | None
    memory_locked: bool


class Store:
    """Open it with `open_store`, in a `with` block: leaving it wipes the keys."""

    def __init__(self, folder: Path, vault: Vault, keystore: Keystore) -> None:
        self.folder = folder
        self.vault = vault
        self.keystore = keystore
        self.audit_signer: Signer = keystore.audit_signer()
        self._counters: dict[str, BlockCounter] = {}

    @property
    def warning(self) -> str | None:
        return self.keystore.warning

    def mac(self, purpose: str, message: bytes) -> bytes:
        """HMAC-SHA256, 32 bytes, under a sealed key of its own for every `purpose`."""
        with self.vault.derive(f"mac {purpose}") as secret, secret.view() as key:
            return hmac.digest(key, message, "sha256")

    def pseudonym_key(self) -> bytes:
        """The key of pseudonyms: the tenant's, or this unit's own where there is none.

        Raises StoreError for a tenant's key that cannot be read: another would give everybody a second
        pseudonym.
        """
        return tenant_key(self.folder, self.vault.derive) or self.mac("pseudonym", b"person")

    def keep_tenant_key(self, key: bytes) -> None:
        """Take the tenant's pseudonym key; it counts from the next start."""
        keep_tenant_key(self.folder, self.vault.derive, key)

    def counter(self, name: str) -> Counter:
        """`challenge`, `attempts` or `audit`: rises for the life of the unit, whatever is put back."""
        if checked_counter(name) in _INTERNAL:
            raise StoreError(f"the counter {name!r} belongs to the vault")
        return self._counters.setdefault(name, BlockCounter(self.keystore.counter(name)))

    def never_used(self, name: str) -> int:
        """The value of the keystore's raw counter `name` before anything counted on it."""
        with self.vault.derive(FIRST_VALUES) as key:
            return first_value(self.folder, key, checked_counter(name))

    def status(self) -> StoreStatus:
        with SecretBytes(1) as probe:
            return StoreStatus(self.vault.status(), self.keystore.status(), self.warning, probe.locked)

    def close(self) -> None:
        self.vault.close()
        self.keystore.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(
    state_dir: Path,
    settings: StoreSettings,
    *,
    clock: Clock = lambda: datetime.now(UTC),
    warn: Callable[[str], None] = lambda text: click.secho(text, fg="red", bold=True, err=True),
) -> Store:
    """Open the store in `state_dir`, making one on the first call.

    Raises RollbackError, SealPolicyError, TpmBusyError, TpmLockedError or StoreError. Forbids core dumps for
    the whole process.
    """
    guard_memory()
    folder = StateFolder(state_dir).store
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keystore = open_keystore(folder, settings)
    try:
        if keystore.warning is not None:
            warn(keystore.warning)
        return Store(folder, Vault(folder, keystore, settings, clock), keystore)
    except BaseException:
        keystore.close()
        raise


def open_keystore(folder: Path, settings: StoreSettings) -> Keystore:
    """The keys without the vault, for a process beside the door's. Raises StoreError."""
    other = folder / ("tpm" if settings.keystore == "software" else "software")
    if other.exists():
        raise StoreError(
            f"this store was made with the {other.name} keystore; set keystore = {other.name!r}, "
            "or use another state folder"
        )
    if settings.keystore == "software":
        if settings.profile == "production":
            raise StoreError("a software keystore is refused in production")
        return SoftwareKeystore(folder / "software")
    from device.secure_store.hardware.tpm_keystore import TpmKeystore  # a laptop needs no TPM libraries

    return TpmKeystore(folder / "tpm", settings)
