"""What proves a log: its hash chain, Merkle trees, signed heads, and the verification that trusts nobody."""
