"""Proofs about a log: hash chain, Merkle trees, signed heads, and independent verification."""
