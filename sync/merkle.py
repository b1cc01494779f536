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
    """The roots of the perfect subtrees of a tree of `size` leaves, largest first: all that growing needs."""

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


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """RFC 9162 2.1.3.1: the path of leaf `index` (from 0) in the tree over all `leaves`."""
    if not 0 <= index < len(leaves):
        raise ProofError("that event is not in this log")
    proof: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        split = low + _largest_power_below(high - low)
        if index < split:
            proof.append(tree_root(leaves[split:high]))
            high = split
        else:
            proof.append(tree_root(leaves[low:split]))
            low = split
    return proof[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """RFC 9162 2.1.4.1: that the tree over `leaves` begins with the tree of its first `old_size` leaves."""
    if not 0 < old_size <= len(leaves):
        raise ProofError("the older head must cover between one event and the whole log")
    proof: list[bytes] = []
    low, high, complete = 0, len(leaves), True
    while old_size != high:
        split = low + _largest_power_below(high - low)
        if old_size <= split:
            proof.append(tree_root(leaves[split:high]))
            high = split
        else:
            proof.append(tree_root(leaves[low:split]))
            low, complete = split, False
    if not complete:
        proof.append(tree_root(leaves[low:high]))
    return proof[::-1]


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
