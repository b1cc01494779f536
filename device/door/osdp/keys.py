"""The key of the secure channel: random, never derived, never weak, kept enciphered under the sealed key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.door.lines import DoorError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.records import NONCE_BYTES
from device.secure_store.voiceprints.vault_file import write_durably
from sync.plain_file import plain_bytes

KEY_BYTES = 16
FILE = "panel-key.bin"
DEFAULT_KEY = bytes(range(0x30, 0x40))
"""SCBK-D, which the standard publishes for installation."""
MIN_DIFFERENT_BYTES = 8
_BOUND = b"ostiary panel key v1"
_LABEL = "panel key"

Derive = Callable[[str], SecretBytes]


def new_key() -> bytes:
    """A random key of 16 bytes: nothing of it can be derived from the reader or from another reader's key."""
    while True:
        key = secrets.token_bytes(KEY_BYTES)
        if not weakness(key):
            return key


def weakness(key: bytes) -> str:
    """Why `key` must not be used; empty when nothing is known against it."""
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
    if why := weakness(key):
        raise DoorError(f"the key is refused: {why}; `ostiary door osdp-key` makes a good one")
    nonce = os.urandom(NONCE_BYTES)
    with derive(_LABEL) as secret, secret.view() as raw:
        write_durably(folder / FILE, nonce + AESGCM(raw).encrypt(nonce, key, _BOUND))


def kept_key(folder: Path, derive: Derive) -> bytes:
    """The key of this unit. Raises DoorError when there is none, or it is another unit's: then no frame is
    sent. A reader without a key never falls back to the default one.
    """
    path = folder / FILE
    if not path.exists():
        raise DoorError("this unit has no key for the controller; run `ostiary door osdp-key`")
    sealed = plain_bytes(path)[:256]
    with derive(_LABEL) as secret, secret.view() as raw:
        try:
            key = AESGCM(raw).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _BOUND)
        except (InvalidTag, ValueError) as err:
            raise DoorError(
                f"{FILE} is damaged or another unit's; make a new key with `ostiary door osdp-key`"
            ) from err
    if why := weakness(key):
        raise DoorError(
            f"the controller's key is refused: {why}; make a new one with `ostiary door osdp-key`"
        )
    return key
