"""Ports that nobody else takes between the choice of a port and the moment something listens there."""

from __future__ import annotations

import random
import socket

RANGE = range(10_240, 20_000)
"""Below what the kernel gives to a program that asks for any port, and below where swtpm's are."""
_claims: list[socket.socket] = []
_dice = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that no other test gets until this process ends."""
    for port in _dice.sample(RANGE, 1_000):
        # A name in the kernel's own space of names: it needs no file, and goes with the process.
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0ostiary-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise RuntimeError(f"no free port from {RANGE.start} to {RANGE.stop}")
