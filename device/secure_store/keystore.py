"""What the store needs of its keystore: a TPM, or files on a laptop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol

from device.secure_store.errors import StoreError
from device.secure_store.exchange import Exchange
from device.secure_store.memory import SecretBytes
from sync.events import Counter, Signer

ROOT_BYTES = 32
COUNTERS = ("vault", "epoch", "challenge", "attempts", "audit")


@dataclass(frozen=True, slots=True)
class Secrets:
    """The sealed secrets. Every epoch has a new `root`; `anchor` stays with the unit for life."""

    epoch: int
    root: SecretBytes
    anchor: SecretBytes

    @classmethod
    def fresh(cls, epoch: int) -> Secrets:
        return cls(epoch, SecretBytes.random(ROOT_BYTES), SecretBytes.random(ROOT_BYTES))

    def next(self) -> Secrets:
        """A new root for the next epoch, the same anchor."""
        with self.anchor.view() as anchor:
            return Secrets(self.epoch + 1, SecretBytes.random(ROOT_BYTES), SecretBytes.copy_of(anchor))

    def wipe(self) -> None:
        self.root.wipe()
        self.anchor.wipe()


@dataclass(frozen=True, slots=True)
class KeystoreStatus:
    """The state for an operator; `facts` also go into `--json`."""

    kind: str
    ready: bool
    state: str
    facts: dict[str, str | int | bool] = field(default_factory=dict)
    locked: bool = False
    """Whether others' wrong passwords have locked the TPM; our keys still work."""


class Keystore(Protocol):
    """Keeps the secrets, counts, signs. Every call may raise TpmBusyError."""

    kind: str
    warning: str | None
    """Shown in red at every start when keys are not in a TPM."""

    def fresh(self) -> bool:
        """True until `confirm`: no vault was made under these keys yet."""
        ...

    def confirm(self) -> None: ...

    def unlock(self) -> tuple[Secrets, ...]:
        """The secrets that still open, newest epoch first: one, or two after a power cut in a rotation."""
        ...

    def stage(self, secrets: Secrets) -> None:
        """Seal the next epoch's secrets beside the present ones, durably."""
        ...

    def settle(self, epoch: int) -> None:
        """Make older epochs than `epoch` useless for ever, and drop all others. Idempotent."""
        ...

    def counter(self, name: str) -> Counter: ...

    def audit_signer(self) -> Signer: ...

    def exchange(self) -> Exchange:
        """The key to which others encipher enrolments."""
        ...

    def status(self) -> KeystoreStatus: ...

    def power_ups(self) -> int | None:
        """How often power came to what keeps the keys, by its own count; None where nothing counts that."""
        ...

    def close(self) -> None: ...


BLOCK = 4096


class BlockCounter:
    """A rising number that costs one non-volatile write per 4,096 steps and one per start.

    Flash in a TPM wears out after some hundred thousand writes. Each start takes a new block and forgets the
    rest of the last one, so that it rises without a file or a clean shutdown.
    """

    def __init__(self, raw: Counter) -> None:
        self._raw = raw
        self._next: int | None = None
        self._lock = threading.Lock()

    def value(self) -> int:
        """No lower than any number given, and below every one to come."""
        return (self._raw.value() + 1) * BLOCK - 1 if self._next is None else self._next - 1

    def advance(self) -> int:
        """The next number, never given before."""
        with self._lock:
            if self._next is None or self._next % BLOCK == 0:
                self._next = self._raw.advance() * BLOCK
            self._next += 1
            return self._next - 1


def checked_counter(name: str) -> str:
    if name not in COUNTERS:
        raise StoreError(f"there is no counter {name!r}; there are {', '.join(COUNTERS)}")
    return name
