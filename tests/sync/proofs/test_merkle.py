"""RFC 9162 proofs, against the published test vectors and a recursive reading of the definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.errors import MalformedError, ProofError
from sync.proofs.chain import leaf_hash
from sync.proofs.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

# The inputs and roots that Certificate Transparency's reference implementation publishes.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(i.to_bytes(4, "big")) for i in range(count)]


def by_definition(hashes: list[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(by_definition(hashes[:split]), by_definition(hashes[split:]))


def test_the_roots_are_those_of_certificate_transparency() -> None:
    for count, root in enumerate(CT_ROOTS, start=1):
        assert tree_root([leaf_hash(leaf) for leaf in CT_LEAVES[:count]]).hex() == root


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 31, 64, 100])
def test_the_frontier_gives_the_root_of_the_definition(count: int) -> None:
    assert tree_root(leaves(count)) == by_definition(leaves(count))
    grown = Frontier().extended(leaves(count)[: count // 2]).extended(leaves(count)[count // 2 :])
    assert grown.root() == by_definition(leaves(count))
    assert Frontier.from_bytes(grown.to_bytes()) == grown


def test_every_inclusion_and_consistency_proof_up_to_forty_leaves_verifies() -> None:
    for size in range(1, 41):
        tree = leaves(size)
        root = tree_root(tree)
        for index in range(size):
            verify_inclusion(tree[index], index, size, inclusion_proof(tree, index), root)
            old = index + 1
            verify_consistency(old, tree_root(tree[:old]), size, root, consistency_proof(tree, old))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_proof_of_something_else_never_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    tree = leaves(size)
    root = tree_root(tree)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(tree, index)
    wrong = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    with pytest.raises(ProofError):
        verify_inclusion(tree[wrong], index, size, proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(tree[index], wrong, size, proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(tree[index], index, size, [*proof, bytes(32)], root)
    old = data.draw(st.integers(1, size - 1))
    path = consistency_proof(tree, old)
    rewritten = tree_root([*tree[: old - 1], bytes(32)])
    with pytest.raises(ProofError):
        verify_consistency(old, rewritten, size, root, path)
    with pytest.raises(ProofError):
        verify_consistency(old, tree_root(tree[:old]), size, bytes(32), path)
    with pytest.raises(ProofError):
        verify_consistency(old, tree_root(tree[:old]), size, root, path[:-1])


def test_malformed_proofs_and_frontiers_are_refused() -> None:
    tree = leaves(5)
    for proof in ([b"short"], [bytes(32)] * 65, ["text"]):
        with pytest.raises(ProofError):
            verify_inclusion(tree[0], 0, 5, proof, tree_root(tree))  # type: ignore[arg-type]
    for data in (b"", b"\x00" * 9, (5).to_bytes(8, "big") + bytes(32)):
        with pytest.raises(MalformedError):
            Frontier.from_bytes(data)
    with pytest.raises(ProofError):
        inclusion_proof(tree, 5)
    with pytest.raises(ProofError):
        consistency_proof(tree, 0)
    with pytest.raises(ProofError):
        verify_consistency(3, tree_root(tree[:3]), 2, tree_root(tree[:2]), [])


def test_proofs_are_the_same_when_the_first_leaves_are_gone_and_only_their_sum_is_left() -> None:
    for size in range(1, 36):
        whole = leaves(size)
        for gone in range(size):
            before, rest = Frontier().extended(whole[:gone]), whole[gone:]
            for index in range(gone, size):
                assert inclusion_proof(rest, index, before) == inclusion_proof(whole, index)
            for old in range(max(1, gone), size + 1):
                assert consistency_proof(rest, old, before) == consistency_proof(whole, old)
            for index in range(gone):
                with pytest.raises(ProofError):
                    inclusion_proof(rest, index, before)
            for old in range(gone):
                with pytest.raises(ProofError):
                    consistency_proof(rest, old, before)
