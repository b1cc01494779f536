"""HTTP over one connection: the application is told its certificate, the count what it is doing."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

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
        channel = transport.get_extra_info("ssl_object")
        peer = channel.getpeercert(binary_form=True) if channel is not None else None
        inner, certificate = self.app, hashlib.sha256(peer).hexdigest() if peer else ""

        async def named(scope: Scope, receive: Receive, send: Send) -> None:
            self._connections.asks(self._peer)
            scope["ostiary.certificate"] = certificate
            await inner(scope, receive, send)

        self.app = named

    def on_response_complete(self) -> None:
        self._connections.answered(self._peer)
        super().on_response_complete()
