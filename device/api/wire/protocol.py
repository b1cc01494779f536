"""HTTP and WebSockets that tell the app the client's certificate, and `Connections` their state."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from device.api.wire.connections import Connections, Peer


class CountedProtocol(H11Protocol):
    """`ostiary.certificate` in a request's scope is the SHA-256 of the client's certificate, in hex."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connections = connections
        self._peer: Peer = ("", 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")[:2]
        self.app = _told(self.app, transport, self._connections)

    def on_response_complete(self) -> None:
        self._connections.answered(self._peer)
        super().on_response_complete()


class CountedWebSocket(WSProtocol):
    """The same for a WebSocket, which no longer waits once its request came."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._counted = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _told(self.app, transport, self._counted)


def _told(inner: Any, transport: asyncio.Transport, connections: Connections) -> Any:
    """`inner`, with the client's certificate in the scope; notes that a whole header came."""
    peer: Peer = transport.get_extra_info("peername")[:2]
    channel = transport.get_extra_info("ssl_object")
    shown = channel.getpeercert(binary_form=True) if channel is not None else None
    certificate = hashlib.sha256(shown).hexdigest() if shown else ""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        connections.asks(peer)
        scope["ostiary.certificate"] = certificate
        await inner(scope, receive, send)

    return named
