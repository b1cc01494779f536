"""The hash chain of one unit: each link binds everything before it, so an edit shows in every later link."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sync.events import UnitId

GENESIS_LABEL = b"ostiary chain v1\x00"


def leaf_hash(body: bytes) -> bytes:
    """RFC 9162 2.1.1: the hash of a leaf, set apart from inner nodes by its first byte."""
    return hashlib.sha256(b"\x00" + body).digest()


def genesis(unit: UnitId) -> bytes:
    """The start of a unit's chain, bound to its name: one unit's log never passes for another's."""
    return hashlib.sha256(GENESIS_LABEL + unit.encode()).digest()


def link(previous: bytes, leaf: bytes) -> bytes:
    """The next chain hash. Both inputs are 32 bytes."""
    return hashlib.sha256(previous + leaf).digest()


def extend(previous: bytes, bodies: Iterable[bytes]) -> bytes:
    """The chain hash after `bodies`."""
    for body in bodies:
        previous = link(previous, leaf_hash(body))
    return previous
