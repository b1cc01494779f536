"""Serves the dashboard until it is stopped."""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import uvicorn

from sync.dashboard.app import make_app
from sync.dashboard.errors import DashboardError
from sync.dashboard.web import Backend
from sync.plain_file import check_plain
from sync.plain_words import what_and_why

MAX_HEADER_BYTES = 16 * 1024


class _Server(uvicorn.Server):
    """Says when it listens, and ends the live streams before it waits for open connections."""

    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], close: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._started = started
        self._close = close

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._close()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def serve(
    backend: Backend,
    *,
    host: str,
    port: int,
    certificate: tuple[Path, Path] | None,
    proxy: str | None,
    started: Callable[[], None],
) -> None:
    """Until SIGTERM or SIGINT. `certificate` is (certificate, key); `proxy` an address whose word we take
    for who is asking. Raises DashboardError when it cannot listen."""
    context = _context(certificate) if certificate else None
    app = make_app(backend)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # addresses hold one-time links and pseudonyms
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=2,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    try:
        asyncio.run(_Server(config, started, app.state.feed.close).serve())
    except SystemExit as err:  # uvicorn has already said why, in one line
        raise DashboardError(f"cannot listen on {host} port {port}") from err


def default_port(origin: str) -> int:
    parts = urllib.parse.urlsplit(origin)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        check_plain(*files)
        context.load_cert_chain(*files)
    except OSError as err:  # ssl.SSLError is one
        raise DashboardError(f"the certificate cannot be used: {what_and_why(err)}") from err
    return context
