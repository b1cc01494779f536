"""Serves an ASGI application with uvicorn until it is stopped: the dashboard, and the claim service."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from sync.errors import SyncError
from sync.service.terminated import Terminated

MAX_HEADER_BYTES = 16 * 1024


class _Server(uvicorn.Server):
    """Calls `started` when it listens, and `closing` before it waits for open connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], None],
        closing: Callable[[], None],
        terminated: Terminated | None,
    ) -> None:
        super().__init__(config)
        self._started = started
        self._closing = closing
        self._terminated = terminated

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self._started()
        self.should_exit = self.should_exit or (self._terminated is not None and self._terminated.asked)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._closing()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def serve(
    app: Any,
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    started: Callable[[], None],
    closing: Callable[[], None] = lambda: None,
    terminated: Terminated | None = None,
    **more: Any,
) -> None:
    """Serve `app` until SIGTERM or SIGINT; `terminated` knows of one that came before the server listened.

    `more` are settings of uvicorn. Raises SyncError when it cannot listen.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,  # addresses hold one-time links and pseudonyms
        server_header=False,
        workers=1,  # and none of its settings from the environment: WEB_CONCURRENCY, FORWARDED_ALLOW_IPS
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=2,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
        **({"proxy_headers": False} | more),
    )
    try:
        asyncio.run(_Server(config, started, closing, terminated).serve())
    except SystemExit as err:  # uvicorn has already said why, in one line
        raise SyncError(f"cannot listen on {host} port {port}") from err
