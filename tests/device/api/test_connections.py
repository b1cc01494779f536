"""Silent connections, half-sent headers and slow bodies block nobody: on sockets, without a model."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from device.api.app import body_of
from device.api.errors import BUSY, SLOW_BODY, ProblemError
from device.api.limits import Room, Stay
from device.api.server import WatchedServer
from device.api.wire.connections import Connections, CountingSocket
from device.api.wire.protocol import CountedProtocol
from sync.service.service_manager import ServiceManager
from sync.service.terminated import Terminated

ASK = b"GET /healthz HTTP/1.1\r\nHost: unit\r\n\r\n"


class _Healthy:
    def healthy(self) -> bool:
        return True


@dataclass
class Served:
    port: int
    connections: Connections

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=180, source_address=(address, 0))

    def answered_within_s(self, address: str = "127.0.0.1") -> float:
        began_s = time.monotonic()
        with self.connect(address) as asking:
            asking.sendall(ASK)
            assert asking.recv(4096).startswith(b"HTTP/1.1 200")
        return time.monotonic() - began_s


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(most=8, ...)` is a server of one page under these limits."""
    stops: list[Callable[[], None]] = []

    def served(most: int = 64, per_address: int = 16, header_s: float = 60.0) -> Served:
        async def page(request: Request) -> PlainTextResponse:
            return PlainTextResponse("well")

        connections = Connections(most, per_address, header_s)
        listening = CountingSocket.listening("127.0.0.1", 0, connections)
        config = uvicorn.Config(
            Starlette(routes=[Route("/healthz", page)]),
            http=partial(CountedProtocol, connections),  # type: ignore[arg-type]
            lifespan="off",
            log_level="critical",
        )
        server = WatchedServer(config, _Healthy(), connections, ServiceManager(), Terminated())  # type: ignore[arg-type]
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=180)
            listening.close()

        stops.append(stop)
        found = Served(listening.getsockname()[1], connections)
        found.answered_within_s()
        return found

    yield served
    for stop in stops:
        stop()


def test_a_server_told_to_stop_before_it_listened_does_not_serve_on() -> None:
    terminated, connections = Terminated(), Connections(64, 16, 60.0)
    with contextlib.suppress(KeyboardInterrupt):  # as where Python drops it
        terminated(signal.SIGTERM, None)
    config = uvicorn.Config(Starlette(), lifespan="off", log_level="critical")
    server = WatchedServer(config, _Healthy(), connections, ServiceManager(), terminated)  # type: ignore[arg-type]
    with contextlib.closing(CountingSocket.listening("127.0.0.1", 0, connections)) as listening:
        asyncio.run(server.serve(sockets=[listening]))
    assert server.started


def ended(connection: socket.socket) -> bool:
    """Whether the other side closes, within ten seconds."""
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_many_silent_connections_of_one_address_leave_room_for_the_others(serve: Serve) -> None:
    server = serve(most=64, per_address=16)
    with contextlib.ExitStack() as opened:
        for _ in range(80):
            opened.enter_context(server.connect("127.0.0.2"))
        server.answered_within_s("127.0.0.1")
        server.answered_within_s("127.0.0.2")  # also for somebody behind the same address
        assert len(server.connections) <= 18


def test_silent_connections_of_many_addresses_are_displaced_by_who_asks(serve: Serve) -> None:
    server = serve(most=32, per_address=16)
    with contextlib.ExitStack() as opened:
        for number in range(2, 12):
            for _ in range(10):
                opened.enter_context(server.connect(f"127.0.0.{number}"))
        server.answered_within_s("127.0.0.1")
        assert server.connections.cut_off >= 68


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:", ASK + b"GET"])
def test_who_sends_no_whole_header_in_time_is_cut_off(serve: Serve, sent: bytes) -> None:
    server = serve(header_s=2.0)
    with server.connect("127.0.0.3") as silent:
        silent.sendall(sent)
        received = b"" if sent.startswith(ASK) else b"well"
        while not received.endswith(b"well"):
            more = silent.recv(4096)
            assert more, "cut off before it was answered"
            received += more
        assert ended(silent)


def test_one_byte_now_and_then_keeps_no_connection(serve: Serve) -> None:
    server = serve(header_s=1.0)
    with server.connect("127.0.0.3") as dripping:
        deadline_s, cut_off = time.monotonic() + 180, False
        while not cut_off and time.monotonic() < deadline_s:
            try:
                dripping.sendall(b"X")
            except OSError:
                cut_off = True
            time.sleep(0.05)
        assert cut_off


def test_a_connection_that_is_served_is_displaced_by_nobody() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    limits = Connections(2, 2, 10.0, now_s=lambda: 0.0)
    try:
        assert limits.enter(("a", 1), pairs[0][0])
        assert limits.enter(("a", 2), pairs[1][0])
        limits.asks(("a", 1))
        limits.asks(("a", 2))
        assert not limits.enter(("a", 3), pairs[2][0])
        limits.answered(("a", 2))
        third = socket.socketpair()
        pairs.append(third)
        assert limits.enter(("a", 3), third[0])
        assert pairs[1][1].recv(1) == b""
    finally:
        for one, other in pairs:
            one.close()
            other.close()


def test_a_slow_body_gives_way_to_the_next_one_and_a_quick_one_does_not() -> None:
    now_s = [0.0]
    room = Room(1, 100, now_s=lambda: now_s[0])

    async def slow() -> ProblemError:
        never = asyncio.Event()

        async def receive() -> dict[str, object]:
            await never.wait()
            return {}

        stay = Stay(room, 50)
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)  # type: ignore[arg-type]
        with pytest.raises(ProblemError) as refused:
            await body_of(request, 50, 60.0, stay)
        stay.end()
        return refused.value

    async def both() -> ProblemError:
        arriving = asyncio.create_task(slow())
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as busy:
            Stay(room, 50)
        assert busy.value.kind is BUSY
        now_s[0] = 1.5
        second = Stay(room, 50)
        refused = await arriving
        second.end()
        return refused

    assert asyncio.run(both()).kind is SLOW_BODY
    assert (room.requests, room.size_bytes) == (0, 0)


def test_who_has_one_connection_is_not_displaced_by_a_flood_of_others() -> None:
    pairs = [socket.socketpair() for _ in range(40)]
    limits = Connections(8, 8, 10.0, now_s=lambda: 0.0)
    try:
        assert limits.enter(("honest", 1), pairs[0][0])
        for number, (one, _) in enumerate(pairs[1:]):
            assert limits.enter((f"flood-{number % 3}", number), one)
        pairs[0][1].setblocking(False)
        with pytest.raises(BlockingIOError):
            pairs[0][1].recv(1)
        assert limits.cut_off == 32
    finally:
        for one, other in pairs:
            one.close()
            other.close()
