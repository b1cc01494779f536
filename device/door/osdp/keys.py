"""The key of the secure channel: random, never derived, never weak, kept enciphered under the sealed key."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from device.door.lines import DoorError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.vault_file import write_durably
from sync.plain_file import plain_bytes
from sync.plain_words import why

KEY_BYTES = 16
FILE = "panel-key.bin"
MAX_FILE_BYTES = 256
DEFAULT_KEY = bytes(range(0x30, 0x40))
"""SCBK-D, which the standard publishes for installation."""
MIN_DIFFERENT_BYTES = 8
_BOUND = b"ostiary panel key v1"
_LABEL = "panel key"

Derive = Callable[[str], SecretBytes]


def new_key() -> bytes:
    """A random key of 16 bytes, derived from nothing."""
    while True:
        key = secrets.token_bytes(KEY_BYTES)
        if not weakness(key):
            return key


def weakness(key: bytes) -> str:
    """Why `key` must not be used; empty for a good one."""
    if len(key) != KEY_BYTES:
        return f"a key has {KEY_BYTES} bytes, not {len(key)}"
    if key == DEFAULT_KEY:
        return "it is the standard's published default key"
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    if len(steps) == 1:
        return "its bytes are all equal, rise or fall evenly"
    if any(key == key[:length] * (KEY_BYTES // length) for length in (1, 2, 4, 8)):
        return "it repeats itself"
    if len(set(key)) < MIN_DIFFERENT_BYTES:
        return "it has too few different bytes"
    if all(0x20 <= byte < 0x7F for byte in key):
        return "it is readable text"
    return ""


def keep_key(folder: Path, derive: Derive, key: bytes) -> None:
    """Seal the key into the store's folder. Raises DoorError for a weak one."""
    if wrong := weakness(key):
        raise DoorError(f"the key is refused: {wrong}; `ostiary door osdp-key` makes a good one")
    with derive(_LABEL) as secret:
        write_durably(folder / FILE, secret.encrypt(key, _BOUND))


def kept_key(folder: Path, derive: Derive) -> bytes:
    """The key of this unit. Raises DoorError when there is none, or it is another unit's or weak."""
    path = folder / FILE
    if not path.exists():
        raise DoorError("this unit has no key for the controller; run `ostiary door osdp-key`")
    try:
        sealed = plain_bytes(path, MAX_FILE_BYTES)
    except OSError as err:
        raise DoorError(
            f"{FILE}, the key for the controller, cannot be read ({why(err)}); mend the disk, or make a new "
            "one with `ostiary door osdp-key`"
        ) from err
    with derive(_LABEL) as secret:
        try:
            key = secret.decrypt(sealed, _BOUND)
        except ValueError as err:
            raise DoorError(
                f"{FILE} is damaged or another unit's; make a new key with `ostiary door osdp-key`"
            ) from err
    if wrong := weakness(key):
        raise DoorError(
            f"the controller's key is refused: {wrong}; make a new one with `ostiary door osdp-key`"
        )
    return key
