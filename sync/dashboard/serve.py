"""Serves the dashboard until it is stopped."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from sync.dashboard.app import make_app
from sync.dashboard.errors import DashboardError
from sync.dashboard.web import Backend
from sync.errors import SyncError
from sync.service import web_server
from sync.service.terminated import Terminated
from sync.transport import tls_files


def serve(
    backend: Backend,
    *,
    host: str,
    port: int,
    certificate: tuple[Path, Path] | None,
    proxy: str | None,
    started: Callable[[], None],
    terminated: Terminated,
) -> None:
    """Serve until SIGTERM or SIGINT; `terminated` knows of one that came before the server listened.

    `certificate` is (certificate, key); `proxy` the address whose X-Forwarded-For is believed. Raises
    SyncError when it cannot listen.
    """
    context = _context(certificate) if certificate else None
    app = make_app(backend)
    # The live streams end before the server waits for open connections.
    web_server.serve(
        app, host, port, context, started, app.state.feed.close, terminated,
        lifespan="on", proxy_headers=proxy is not None, forwarded_allow_ips=proxy,
    )  # fmt: skip


def default_port(origin: str) -> int:
    parts = urllib.parse.urlsplit(origin)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        with tls_files.explained(*files):
            tls_files.show(context, *files)
    except SyncError as err:
        raise DashboardError(f"the certificate cannot be used: {err}") from err
    return context
