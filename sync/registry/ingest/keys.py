"""The units' audit keys, as one worker knows them."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from sync.events import UnitId
from sync.proofs.bundle import key_from_bytes
from sync.registry.database.store import Store

KEYS_EVERY_S = 2.0


class KnownKeys:
    """Read from the registry, and again now and then while a key is missing. Methods raise StoreError."""

    def __init__(self, store: Store, now_s: Callable[[], float]) -> None:
        self._store = store
        self._now_s = now_s
        self._keys: dict[UnitId, ec.EllipticCurvePublicKey] = {}
        self._ders: dict[UnitId, bytes] = {}
        self._read_at = float("-inf")

    def of(self, unit: UnitId, *, doubted: bool = False) -> ec.EllipticCurvePublicKey | None:
        """A unit's audit key, read again now and then while it is not known, or `doubted`."""
        if (doubted or unit not in self._keys) and self._now_s() - self._read_at > KEYS_EVERY_S:
            for name, der in self._store.public_keys().items():
                if self._ders.get(name) != der:
                    self._keys[name], self._ders[name] = key_from_bytes(der), der
            # Only now: a database that did not answer has not said that a unit is unknown.
            self._read_at = self._now_s()
        return self._keys.get(unit)
