"""Attackers, at a worker: it takes prints, acknowledges them and warns units."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from sync.errors import MalformedError, ProofError
from sync.events import Signer, UnitId
from sync.keys import FileSigner
from sync.registry.campaigns.intake import Intake
from sync.registry.campaigns.warning import Warner
from sync.registry.database.store import Store
from sync.threats.prints import MAX_KEPT, signed_kept


class Campaigns:
    """`warner` is None at a worker without the command key: it takes prints, and warns nobody."""

    def __init__(self, intake: Intake, warner: Warner | None, receipts: Signer) -> None:
        self.intake = intake
        self._warner = warner
        self._receipts = receipts

    @classmethod
    def open(
        cls,
        store: Store,
        tenant_key: Path,
        receipts: Signer,
        orders: Signer | None,
        now_ms: Callable[[], int],
    ) -> Self:
        """Open with the tenant's key from a file (PEM). Raises SyncError when it cannot be read."""
        tenant = FileSigner.load(tenant_key)
        warner = None if orders is None else Warner(store, orders, tenant.public_key(), now_ms)
        return cls(Intake(store, tenant.private_key(), now_ms), warner, receipts)

    def take(
        self, found: Sequence[tuple[UnitId, bytes]], refused: Counter[tuple[str, str]]
    ) -> list[tuple[UnitId, bytes]]:
        """Keep prints; returns the receipts to publish. Others than that unit's are counted in `refused`."""
        kept: dict[UnitId, list[bytes]] = defaultdict(list)
        for unit, payload in found:
            try:
                name = self.intake.take(unit, payload)
            except MalformedError:
                refused["malformed prints", unit] += 1
            except ProofError:
                refused["foreign prints", unit] += 1
            else:
                kept[unit] += [name] if name is not None else []
        return [
            (unit, signed_kept(unit, names[at : at + MAX_KEPT], self._receipts))
            for unit, names in kept.items()
            for at in range(0, len(names), MAX_KEPT)
        ]

    def warn(self) -> int:
        """Tell units that hold an older list of threats; how many were told. Raises StoreError."""
        return 0 if self._warner is None else self._warner.round()
