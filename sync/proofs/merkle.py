"""RFC 9162 Merkle trees: a frontier that grows, and proofs of inclusion and consistency."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync.errors import MalformedError, ProofError

EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF_HASHES = 64


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 2.1.1: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The roots of the perfect subtrees of a tree of `size` leaves, largest first: enough to let it grow."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise MalformedError("a Merkle frontier does not fit its size")

    def extended(self, leaves: Iterable[bytes]) -> Frontier:
        """The frontier after these leaf hashes."""
        nodes, size = list(self.nodes), self.size
        for leaf in leaves:
            carry, bits = leaf, size
            while bits & 1:
                carry = node_hash(nodes.pop(), carry)
                bits >>= 1
            nodes.append(carry)
            size += 1
        return Frontier(size, tuple(nodes))

    def root(self) -> bytes:
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root

    def without_first(self, count: int) -> Frontier:
        """The frontier without the first `count` leaves. Raises ProofError unless they are whole subtrees."""
        nodes, size = list(self.nodes), self.size
        while count > 0 and nodes:
            largest = 1 << size.bit_length() - 1
            count, size = count - largest, size - largest
            nodes.pop(0)
        if count:
            raise ProofError("the proof would need events that are not here any more")
        return Frontier(size, tuple(nodes))

    def to_bytes(self) -> bytes:
        return self.size.to_bytes(8, "big") + b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        if len(data) < 8 or (len(data) - 8) % 32:
            raise MalformedError("a stored Merkle frontier is damaged; restore the database")
        nodes = tuple(data[i : i + 32] for i in range(8, len(data), 32))
        return cls(int.from_bytes(data[:8], "big"), nodes)


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes (RFC 9162 2.1.1)."""
    return Frontier().extended(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int, before: Frontier | None = None) -> list[bytes]:
    """RFC 9162 2.1.3.1: the path of leaf `index` (from 0) in the tree that ends with `leaves`.

    `before` sums up the leaves in front of them, which need not be here any more. Raises ProofError.
    """
    tree = _Tree(leaves, before or Frontier())
    if not tree.before.size <= index < tree.size:
        raise ProofError("that event is not in this log")
    proof: list[bytes] = []
    low, high = 0, tree.size
    while high - low > 1:
        split = low + _largest_power_below(high - low)
        if index < split:
            proof.append(tree.root(split, high))
            high = split
        else:
            proof.append(tree.root(low, split))
            low = split
    return proof[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int, before: Frontier | None = None) -> list[bytes]:
    """RFC 9162 2.1.4.1: that the tree that ends with `leaves` begins with that of `old_size` leaves.

    `before` sums up the leaves in front of them; the old tree must hold all those. Raises ProofError.
    """
    tree = _Tree(leaves, before or Frontier())
    if not max(1, tree.before.size) <= old_size <= tree.size:
        raise ProofError("the older head must cover between the first event here and the whole log")
    proof: list[bytes] = []
    low, high, complete = 0, tree.size, True
    while old_size != high:
        split = low + _largest_power_below(high - low)
        if old_size <= split:
            proof.append(tree.root(split, high))
            high = split
        else:
            proof.append(tree.root(low, split))
            low, complete = split, False
    if not complete:
        proof.append(tree.root(low, high))
    return proof[::-1]


@dataclass(frozen=True, slots=True)
class _Tree:
    """Leaves, and the sum of those in front of them."""

    leaves: Sequence[bytes]
    before: Frontier

    @property
    def size(self) -> int:
        return self.before.size + len(self.leaves)

    def root(self, low: int, high: int) -> bytes:
        """The root over leaves `low` to `high` (not included), a subtree that a proof asks for."""
        gone = self.before.size
        if low >= gone:
            return tree_root(self.leaves[low - gone : high - gone])
        known = self.before.without_first(low)
        if high >= gone:
            return known.extended(self.leaves[: high - gone]).root()
        # A subtree to the left of everything here is itself one of those that were summed up.
        largest = 1 << known.size.bit_length() - 1
        if high - low != largest:
            raise ProofError("the proof would need events that are not here any more")
        return known.nodes[0]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 2.1.3.2. Raises ProofError unless `leaf` is number `index` of `size` under `root`."""
    _check_proof(proof)
    # 1. The index must be inside the tree.
    if not 0 <= index < size:
        raise ProofError("the inclusion proof names an event outside the log")
    # 2. and 3.
    fn, sn, r = index, size - 1, leaf
    # 4. Every hash of the path.
    for p in proof:
        if sn == 0:
            raise ProofError("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    # 5. The path must end at the root.
    if sn != 0 or r != root:
        raise ProofError("the event is not in the log that the head signs")


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162 2.1.4.2. Raises ProofError unless the larger tree begins with the smaller one."""
    _check_proof(proof)
    if not 0 < old_size <= size:
        raise ProofError("the log became shorter")
    if old_size == size:
        if proof or old_root != root:
            raise ProofError("two heads of one size differ: the log was rewritten")
        return
    path = list(proof)
    # 1. An empty proof proves nothing.
    if not path:
        raise ProofError("the consistency proof is empty")
    # 2. A whole subtree is its own start.
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    # 3. and 4.
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    # 5.
    fr = sr = path[0]
    # 6.
    for c in path[1:]:
        if sn == 0:
            raise ProofError("the consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    # 7.
    if fr != old_root or sr != root or sn != 0:
        raise ProofError("the newer log does not begin with the older one: it was rewritten")


def _largest_power_below(n: int) -> int:
    """The largest power of two smaller than n (n >= 2)."""
    return 1 << (n - 1).bit_length() - 1


def _check_proof(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF_HASHES or any(type(p) is not bytes or len(p) != 32 for p in proof):
        raise ProofError("a proof is a short list of 32-byte hashes")
