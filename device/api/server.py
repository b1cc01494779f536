"""Builds the facade and serves it: mutual TLS, or plain HTTP on a laptop's loopback when asked for."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from device.api.app import make_app
from device.api.checks import Checks
from device.api.codes import CodeIssuer
from device.api.errors import ApiError
from device.api.results import Results
from device.api.service import Service
from device.api.streams.socket import MAX_MESSAGE_BYTES
from device.api.tokens import TokenBook
from device.api.wire.connections import Connections, CountingSocket
from device.api.wire.protocol import CountedProtocol, CountedWebSocket
from device.clock import Clock, system_clock
from device.conversation.opening import ConversationModels, open_models
from device.evidence.judge import Judge
from device.model_store.minimum_versions import MinimumVersions, pinned_minimum
from device.models.self_test import MEMORY_NAME
from device.secure_store import open_store
from device.settings import Settings, own_models_dir
from device.state_folder import StateFolder
from device.unit.assembly import Tools, open_judge
from sync.errors import SyncError
from sync.plain_words import why
from sync.service.service_manager import ServiceManager
from sync.service.terminated import Terminated
from sync.transport import tls_files

MAX_HEADER_BYTES = 16 * 1024
_STUCK_AFTER = 6.0
_ACCEPTED_AT_ONCE = 16
"""Between two of which the loop serves the requests it has begun."""


@contextmanager
def open_service(
    settings: Settings, state: Path, models: Path, clock: Clock = system_clock
) -> Iterator[Service]:
    """The facade's parts, beside the door process; leaving stops them in reverse."""
    with open_store(state, settings.store) as store:
        minimum = pinned_minimum(store.vault)
    with (
        open_judge(models, settings, minimum) as judge,
        service_with(judge, settings, state, clock, partial(_models, models, minimum)) as service,
    ):
        yield service


@contextmanager
def service_with(
    judge: Judge,
    settings: Settings,
    state: Path,
    clock: Clock = system_clock,
    open_models: Callable[[], ConversationModels] | None = None,
) -> Iterator[Service]:
    """As `open_service`, on an open judge. Without `open_models` it serves no streams."""
    with (
        open_store(state, settings.store) as store,
        Results(
            StateFolder(state).api_results,
            store.mac,
            now_s=lambda: clock().wall.timestamp(),
            lifetime_s=settings.api.result_lifetime_s,
            most=settings.api.max_results,
        ) as results,
        TokenBook(StateFolder(state).api_tokens) as tokens,
    ):
        epochs, lifetime_s = store.counter("challenge"), settings.api.code_lifetime_s
        codes = CodeIssuer(settings.door.unit, epochs.advance, store.mac, results, lifetime_s)
        checks = Checks(Tools(judge, store, settings, state, clock).going_by_time_seen(), results)
        stuck_after_s = _STUCK_AFTER * settings.judge.timeout_s
        service = Service(
            settings.api, checks, results, codes, store.mac, clock, tokens,
            stuck_after_s=stuck_after_s, open_models=open_models,
        )  # fmt: skip
        try:
            yield service
        finally:
            service.close()


def _models(models: Path, minimum: MinimumVersions | None) -> ConversationModels:
    return open_models(models, own_models_dir() / MEMORY_NAME, minimum)


def serve(service: Service, settings: Settings, terminated: Terminated, *, plain_http: bool) -> None:
    """Serve until SIGTERM or SIGINT; `terminated` knows of one that came before the server listened.

    Raises ApiError when this unit must not serve like that.
    """
    context = tls_context(settings, plain_http=plain_http)
    told = settings.api
    connections = Connections(told.max_connections, told.connections_per_address, told.header_timeout_s)
    config = uvicorn.Config(
        make_app(service),
        http=partial(CountedProtocol, connections),  # type: ignore[arg-type]  # any callable makes a protocol
        ws=partial(CountedWebSocket, connections),  # type: ignore[arg-type]
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not shrink, and what it would unpack to has no limit
        lifespan="off",
        log_level="warning",
        access_log=False,  # paths hold transaction ids
        server_header=False,
        workers=1,  # else WEB_CONCURRENCY of the environment is read, and must be a number
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
        backlog=_ACCEPTED_AT_ONCE,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    try:
        listening = CountingSocket.listening(told.host, told.port, connections)
    except OSError as err:
        raise ApiError(f"cannot listen on {told.host} port {told.port}: {why(err)}") from err
    with closing(listening):
        server = WatchedServer(config, service, connections, ServiceManager(), terminated)
        asyncio.run(server.serve(sockets=[listening]))


class WatchedServer(uvicorn.Server):
    """Tells systemd that it listens and makes progress; cuts off connections that are silent too long."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        connections: Connections,
        manager: ServiceManager,
        terminated: Terminated,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._connections = connections
        self._manager = manager
        self._terminated = terminated

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._manager.ready("serving")

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second by the loop that serves requests."""
        self._connections.sweep()
        if self._service.healthy():
            self._manager.progress()
        return self._terminated.asked or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._manager.stopping()
        await super().shutdown(sockets)


def tls_context(settings: Settings, *, plain_http: bool) -> ssl.SSLContext | None:
    """TLS 1.3 that asks callers for a certificate; None for plain HTTP, where allowed. Raises ApiError."""
    files = settings.api.tls
    if plain_http:
        if files is not None:
            raise ApiError("plain HTTP and [api] certificate exclude each other")
        if settings.store.profile != "laptop" or not _is_loopback(settings.api.host):
            raise ApiError("plain HTTP is for a laptop's loopback address alone; set up [api] certificate")
        return None
    if files is None:
        raise ApiError("set [api] certificate, key and client_ca (or, on a laptop, give --plain-http)")
    certificate, key, client_ca = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        with tls_files.explained(certificate, key, client_ca):
            tls_files.show(context, certificate, key)
            context.load_verify_locations(client_ca)
    except SyncError as err:
        raise ApiError(f"the certificates of [api] cannot be used: {err}") from err
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
