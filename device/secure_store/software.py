"""A keystore for a laptop: keys in files, readable by everybody who has the disk; it warns of that."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import StoreError, StoreUnavailableError
from device.secure_store.exchange import Exchange
from device.secure_store.keystore import (
    COUNTERS,
    ROOT_BYTES,
    KeystoreStatus,
    Secrets,
    checked_counter,
)
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.vault_file import (
    refuse_a_link_to_nowhere,
    refuse_over_a_vault,
    unavailable,
    write_durably,
)
from sync.events import Counter, Signer
from sync.keys import FileSigner
from sync.plain_file import check_plain_or_new, plain_bytes, plain_text

WARNING = (
    "SOFTWARE KEYSTORE: voiceprints on this machine are NOT protected by a TPM. "
    "For development only; production refuses it."
)


class SoftwareKeystore:
    """Files `keystore.json` (counters), `audit-key.pem` and `root-<epoch>.key` in one folder, mode 0600."""

    kind = "software"
    warning: str | None = WARNING

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state_path = folder / "keystore.json"
        with self._locked():
            refuse_a_link_to_nowhere(self._state_path)
            if not self._state_path.exists():
                self._provision()

    def fresh(self) -> bool:
        return bool(self._state()["fresh"])

    def confirm(self) -> None:
        with self._locked():
            self._save({**self._state(), "fresh": False})

    def unlock(self) -> tuple[Secrets, ...]:
        found = []
        oldest = self._state()["counters"]["epoch"]
        for path in self._folder.iterdir():  # a glob takes a folder that it may not list for an empty one
            if not path.match("root-*.key"):
                continue
            epoch, data = int(path.stem.removeprefix("root-")), bytearray(plain_bytes(path))
            if epoch >= oldest and len(data) == 2 * ROOT_BYTES:
                halves = memoryview(data)
                root = SecretBytes.copy_of(halves[:ROOT_BYTES])
                found.append(Secrets(epoch, root, SecretBytes.copy_of(halves[ROOT_BYTES:])))
                halves[:] = bytes(len(data))
        if not found:
            raise StoreError("the software keystore has lost its key; remove the store and enrol again")
        return tuple(sorted(found, key=lambda s: -s.epoch))

    def stage(self, secrets: Secrets) -> None:
        with secrets.root.view() as root, secrets.anchor.view() as anchor:
            write_durably(self._folder / f"root-{secrets.epoch}.key", bytes(root) + bytes(anchor))

    def settle(self, epoch: int) -> None:
        with self._locked():
            state = self._state()
            if state["counters"]["epoch"] < epoch:
                state["counters"]["epoch"] = epoch
                self._save(state)
        for path in self._folder.glob("root-*.key"):
            if path.name != f"root-{epoch}.key":
                path.unlink()

    def counter(self, name: str) -> Counter:
        return _FileCounter(self, checked_counter(name))

    def power_ups(self) -> None:
        """A file does not know."""

    def audit_signer(self) -> Signer:
        return FileSigner(_read_pem(self._folder / "audit-key.pem"))

    def exchange(self) -> Exchange:
        path = self._folder / "exchange-key.pem"
        with self._locked():
            if not path.exists():
                write_durably(path, FileSigner.generate().private_pem())
        return _FileExchange(path)

    def status(self) -> KeystoreStatus:
        state = self._state()
        facts: dict[str, str | int | bool] = {f"counter {n}": state["counters"][n] for n in COUNTERS}
        return KeystoreStatus(self.kind, True, "no TPM: development only", facts)

    def close(self) -> None:
        return

    def _provision(self) -> None:
        refuse_over_a_vault(self._folder.parent)
        write_durably(self._folder / "audit-key.pem", FileSigner.generate().private_pem())
        secrets = Secrets.fresh(epoch=1)
        self.stage(secrets)
        secrets.wipe()
        self._save({"fresh": True, "counters": {name: 1 for name in COUNTERS}})

    def _state(self) -> dict[str, dict[str, int]]:
        try:
            state: dict[str, dict[str, int]] = json.loads(plain_text(self._state_path))
        except OSError as err:
            raise StoreUnavailableError(unavailable(self._state_path.name, err)) from err
        except ValueError as err:
            raise StoreError(
                f"{self._state_path.name} of the software keystore is damaged; put it back from a backup"
            ) from err
        return state

    def _save(self, state: object) -> None:
        write_durably(self._state_path, json.dumps(state).encode())

    def count(self, name: str) -> int:
        """Raise one counter by one, safe against other processes."""
        with self._locked():
            state = self._state()
            state["counters"][name] += 1
            self._save(state)
            return state["counters"][name]

    def current(self, name: str) -> int:
        return self._state()["counters"][name]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with check_plain_or_new(self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _FileCounter:
    def __init__(self, store: SoftwareKeystore, name: str) -> None:
        self._store = store
        self._name = name

    def value(self) -> int:
        return self._store.current(self._name)

    def advance(self) -> int:
        return self._store.count(self._name)


class _FileExchange:
    def __init__(self, path: Path) -> None:
        self._key = _read_pem(path)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def agree(self, point: ec.EllipticCurvePublicKey) -> SecretBytes:
        return SecretBytes.copy_of(bytearray(self._key.exchange(ec.ECDH(), point)))


def _read_pem(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(plain_bytes(path), password=None)
    except (ValueError, TypeError) as err:
        raise StoreError(
            f"{path.name} of the software keystore is no private key; put it back from a backup"
        ) from err
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StoreError(f"{path.name} of the software keystore is not an elliptic-curve key")
    return key
