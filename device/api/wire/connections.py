"""Counts connections, and cuts off those that send no whole request header in time.

A connection is *waiting* from its first packet, through the TLS handshake, until a whole header is there, and
again after an answer. One that waits too long is cut off. When an address, or all together, hold as many as
they may, a new connection takes the place of the one that has waited longest: of that address, or of the
address with the most waiting. So silent connections block nobody.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Peer: TypeAlias = tuple[str, int]
"""Address and port of the other side."""

QUEUE = 4096
"""How many connections the kernel holds until they are accepted."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing does not wait for data that the other side does not read."""


@dataclass(slots=True)
class _Held:
    socket: socket.socket
    since_s: float
    waiting: bool = True


class Connections:
    """Belongs to one event loop."""

    def __init__(
        self,
        most: int,
        most_per_address: int,
        header_within_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._header_within_s = header_within_s
        self._now_s = now_s
        self._held: OrderedDict[Peer, _Held] = OrderedDict()
        """The longest waiting first."""
        self.cut_off = 0
        """How many were ended for silence, or for want of room."""

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, peer: Peer, connection: socket.socket) -> bool:
        """Note a new connection; False, and closed, where no waiting one can make room."""
        self._forget_closed()
        same = [other for other in self._held if other[0] == peer[0]]
        if len(same) >= self._most_per_address and not self._displace(same):
            return self._refuse(connection)
        if len(self._held) >= self._most and not self._displace(self._of_the_most_silent()):
            return self._refuse(connection)
        self._held[peer] = _Held(connection, self._now_s())
        return True

    def asks(self, peer: Peer) -> None:
        """Note that a whole request header came."""
        held = self._held.get(peer)
        if held is not None:
            held.waiting = False

    def answered(self, peer: Peer) -> None:
        """Note that the answer is out: the connection waits from now on."""
        held = self._held.get(peer)
        if held is not None:
            held.waiting, held.since_s = True, self._now_s()
            self._held.move_to_end(peer)

    def sweep(self) -> None:
        """Cut off connections that have waited too long; called ten times a second."""
        self._forget_closed()
        late_s = self._now_s() - self._header_within_s
        for peer in [peer for peer, held in self._held.items() if held.waiting and held.since_s < late_s]:
            self._end(peer)

    def _of_the_most_silent(self) -> list[Peer]:
        """The connections of the address with the most waiting."""
        waiting = Counter(peer[0] for peer, held in self._held.items() if held.waiting)
        if not waiting:
            return []
        address = waiting.most_common(1)[0][0]
        return [peer for peer in self._held if peer[0] == address]

    def _displace(self, peers: list[Peer]) -> bool:
        """End the one of `peers` that has waited longest; False when none waits."""
        waiting = next((peer for peer in peers if self._held[peer].waiting), None)
        if waiting is not None:
            self._end(waiting)
        return waiting is not None

    def _end(self, peer: Peer) -> None:
        """Shut down the socket: the loop sees the end of the stream, and closes it."""
        self.cut_off += 1
        held = self._held.pop(peer)
        with contextlib.suppress(OSError):
            held.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            held.socket.shutdown(socket.SHUT_RDWR)

    def _refuse(self, connection: socket.socket) -> bool:
        self.cut_off += 1
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            connection.close()
        return False

    def _forget_closed(self) -> None:
        for peer in [peer for peer, held in self._held.items() if held.socket.fileno() < 0]:
            del self._held[peer]


class CountingSocket(socket.socket):
    """A listening socket that counts connections before a byte of them is read."""

    connections: Connections

    @classmethod
    def listening(cls, host: str, port: int, connections: Connections) -> CountingSocket:
        """Bound and listening; raises OSError."""
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = cls(family, kind, protocol)
        found.connections = connections
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen()
        except OSError:
            found.close()
            raise
        return found

    def listen(self, backlog: int = QUEUE, /) -> None:
        """Listen with a long queue: a connection beyond it waits a second for its next try."""
        super().listen(max(backlog, QUEUE))

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises ConnectionAbortedError where there is no room."""
        connection, address = super().accept()
        if not self.connections.enter((address[0], address[1]), connection):
            raise ConnectionAbortedError("no room")
        return connection, address
