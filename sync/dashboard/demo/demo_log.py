"""One invented unit's log, in memory: a real chain, and heads that are really signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sync.events import AuditEvent, Record, Signer, UnitId
from sync.outbox import Batch
from sync.proofs import chain
from sync.proofs.heads import NO_HEAD, Head, head_hash
from sync.proofs.merkle import Frontier
from sync.transport.messages import MAX_BATCH_EVENTS


@dataclass(slots=True)
class DemoLog:
    """`sequence` events were appended; `time_ms` dates the heads."""

    unit: UnitId
    time_ms: Callable[[], int]
    sequence: int = 0
    _open: list[bytes] = field(default_factory=list)
    _chain: bytes = b""
    _tree: Frontier = field(default_factory=Frontier)
    _head_hash: bytes = NO_HEAD

    def __post_init__(self) -> None:
        self._chain = chain.genesis(self.unit)

    def append(self, event: AuditEvent) -> None:
        self.sequence += 1
        self._open.append(Record(self.unit, self.sequence, event).to_bytes())

    def seal(self, signer: Signer) -> Iterator[tuple[Batch, Head]]:
        """What was appended since the last call, in batches with a signed head each."""
        while self._open:
            bodies, self._open = self._open[:MAX_BATCH_EVENTS], self._open[MAX_BATCH_EVENTS:]
            leaves = [chain.leaf_hash(body) for body in bodies]
            previous, first = self._chain, self._tree.size + 1
            for leaf in leaves:
                self._chain = chain.link(self._chain, leaf)
            self._tree = self._tree.extended(leaves)
            size, root = self._tree.size, self._tree.root()
            head = Head(self.unit, size, self._chain, root, self.time_ms(), 1, 0, self._head_hash)
            signed = head.signed(signer)
            self._head_hash = head_hash(signed)
            yield Batch(first, previous, tuple(bodies), signed, size), head
