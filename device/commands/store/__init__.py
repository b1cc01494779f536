"""`ostiary store`: the vault and its keys, for an administrator."""

from device.commands.store import keys, moving, sealing, vault
from device.commands.store.group import store

__all__ = ["keys", "moving", "sealing", "store", "vault"]
