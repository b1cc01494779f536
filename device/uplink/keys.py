"""The audit key of the unit we run on, for the process that sends its log."""

from __future__ import annotations

from device.secure_store.keystore import Keystore
from device.secure_store.store import open_keystore
from device.settings import Settings, state_dir
from device.state_folder import StateFolder


def unit_keystore(settings: Settings) -> Keystore:
    """Who signs on this unit. The door process holds the vault; this process needs the audit key only."""
    return open_keystore(StateFolder(state_dir()).store, settings.store)
