"""The keystore's counters when the store was made: a TPM starts them above all it had before.

A file that counts on a counter (attempt history, audit log) is new only while the counter stands there. The
values are authenticated, so that nobody makes a used counter look unused; without the file, 1 is assumed, as
for stores of earlier versions.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path

from device.secure_store.keystore import COUNTERS, Keystore
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.vault_file import write_durably
from sync.plain_file import open_plain

FIRST_VALUES = "first counter values"
_FILE = "counters.first"
_MAC_BYTES = 32
_MAX_BYTES = 4096


def keep_first_values(folder: Path, key: SecretBytes, keystore: Keystore) -> None:
    """Note what every counter says now; only where no vault lies yet."""
    body = json.dumps({name: keystore.counter(name).value() for name in COUNTERS}, sort_keys=True).encode()
    with key.view() as raw:
        write_durably(folder / _FILE, hmac.digest(raw, body, "sha256") + body)


def first_value(folder: Path, key: SecretBytes, name: str) -> int:
    """The counter's value on this unit when nothing had counted; 1 when that was not noted or was changed."""
    try:
        with open_plain(folder / _FILE) as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return 1
    with key.view() as raw:
        if not hmac.compare_digest(data[:_MAC_BYTES], hmac.digest(raw, data[_MAC_BYTES:], "sha256")):
            return 1
    return int(json.loads(data[_MAC_BYTES:])[name])
