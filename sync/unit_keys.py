"""The audit key of the unit we run on: the one place where `sync` opens the unit's key store."""

from __future__ import annotations

from device.secure_store.keystore import Keystore
from device.secure_store.software import SoftwareKeystore
from device.secure_store.store import FOLDER
from device.settings import Settings, state_dir


def unit_keystore(settings: Settings) -> Keystore:
    """Who signs on this unit. The door process holds the vault; this process needs the audit key only."""
    folder = state_dir() / FOLDER
    if settings.store.keystore == "software":
        return SoftwareKeystore(folder / "software")
    from device.secure_store.tpm_keystore import TpmKeystore  # a laptop needs no TPM libraries

    return TpmKeystore(folder / "tpm", settings.store)
