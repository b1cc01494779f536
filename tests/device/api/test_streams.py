"""Streams of sound over a WebSocket: who may, how much, and what becomes of a caller who is cut off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from device.api.app import make_app
from device.api.server import service_with
from device.api.streams.socket import CHECK_TOKEN_S
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.conversation.opening import ConversationModels
from device.evidence.judge import Judge
from device.secure_store import open_store
from device.settings import Settings
from tests.device.api.conftest import Facade, MovedClock, enrolment, slug
from tests.speech import Reading

OpenStreams = Callable[..., AbstractContextManager[Facade]]


@pytest.fixture
def open_streams(judge: Judge, conversation_models: ConversationModels, tmp_path: Path) -> OpenStreams:
    """`open_streams(max_streams=1, ...)` is a facade that serves streams."""

    @contextlib.contextmanager
    def opened(**changed: Any) -> Iterator[Facade]:
        settings = replace(Settings(), api=replace(Settings().api, **changed))
        clock, state = MovedClock(), tmp_path / "state"
        with (
            service_with(judge, settings, state, clock, lambda: conversation_models) as service,
            TestClient(make_app(service)) as client,
            open_store(state, settings.store) as store,
        ):
            yield Facade(client, service, clock, state, store)

    return opened


@pytest.fixture
def streams(open_streams: OpenStreams) -> Iterator[Facade]:
    with open_streams() as opened:
        yield opened


def samples(*readings: Reading) -> bytes:
    return b"".join(read_recording(one.path, FileLimits()).astype("<i2").tobytes() for one in readings)


def said(socket: Any, sound: bytes, portion: int = 32_000) -> list[dict[str, Any]]:
    """What is told until all of `sound` was heard."""
    found: list[dict[str, Any]] = []
    for begin in range(0, len(sound), portion):
        socket.send_bytes(sound[begin : begin + portion])
        while True:
            message = socket.receive_json()
            if "heard" in message:
                break
            found.append(message)
    return found


def ended(socket: Any) -> list[dict[str, Any]]:
    socket.send_json({"end": True})
    found = []
    while not (message := socket.receive_json()).get("done"):
        found.append(message)
    return found


def problem(socket: Any) -> str:
    """Which problem ended the stream; the close code has its status."""
    message = socket.receive_json()
    with pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_json()
    assert closed.value.code == 4_000 + message["problem"]["status"]
    return str(message["problem"]["type"]).removeprefix("urn:ostiary:problem:")


def test_a_stream_tells_who_speaks_and_that_somebody_else_goes_on(
    streams: Facade, reader: list[Reading], other_reader: list[Reading]
) -> None:
    enrolled = streams.post("/register", {"tid": "r", "uid": "4711", "audio": enrolment(reader)})
    assert enrolled.json()["outcome"] == "registered"
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_json({"uid": "4711"})
        assert set(socket.receive_json()) == {"ready", "samples", "seq"}
        found = said(socket, samples(*reader[:2], *other_reader)) + ended(socket)
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert {turn["speaker"] for e in found if e["event"] == "turns" for turn in e["turns"]} == {
        "speaker-1",
        "speaker-2",
    }
    assert [e["state"] for e in found if e["event"] == "changed"][:2] == ["TRUSTED", "DOUBTED"]
    assert streams.service.streams.open == 0


def test_only_the_scope_opens_a_stream_and_a_plain_request_is_told_what_it_is(streams: Facade) -> None:
    for headers, expected in (({}, "no-token"), (streams.bearer("verify"), "wrong-scope")):
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            streams.client.websocket_connect("/stream", headers=headers),
        ):
            pass
        assert slug(denied.value) == expected
    assert slug(streams.client.get("/stream", headers=streams.bearer("stream"))) == "upgrade-required"
    assert slug(streams.client.get("/stream")) == "no-token"


def test_a_unit_without_the_segmentation_serves_no_stream(facade: Facade) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        facade.client.websocket_connect("/stream", headers=facade.bearer("stream")),
    ):
        pass
    assert slug(denied.value) == "no-segmentation"


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("[]", "invalid"),
        ("{", "bad-json"),
        ('{"uid": "a\\nb"}', "invalid"),
        ('{"nonsense": 1}', "invalid"),
        ('{"known": 1}', "invalid"),
        ('{"after": -1}', "invalid"),
        ('{"resume": "x"}', "invalid"),
        ('{"resume": "aaaaaaaaaaaaaaaaaaaaaaaa", "uid": "4711"}', "invalid"),
        ('{"resume": "aaaaaaaaaaaaaaaaaaaaaaaa"}', "no-stream"),
        ('{"uid": "nobody"}', "no-person"),
        ('{"known": true}', "no-person"),
        ('{"uid": "' + 3_000 * "a" + '"}', "bad-stream"),
    ],
)
def test_a_first_message_that_is_none_ends_the_stream(streams: Facade, first: str, expected: str) -> None:
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_text(first)
        assert problem(socket) == expected
    assert streams.service.streams.open == 0


@pytest.mark.parametrize(
    "message", [b"", b"\0", bytes(64_002), '{"end": false}', "{}", "nonsense"], ids=lambda one: repr(one)[:20]
)
def test_what_is_no_sound_ends_the_connection(streams: Facade, message: bytes | str) -> None:
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_json({})
        socket.receive_json()
        if isinstance(message, bytes):
            socket.send_bytes(message)
        else:
            socket.send_text(message)
        assert problem(socket) in ("bad-stream", "bad-json")


def test_a_caller_who_sends_nothing_is_let_go(open_streams: OpenStreams) -> None:
    with (
        open_streams(stream_idle_s=3.0) as streams,
        streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket,
    ):
        socket.send_json({})
        socket.receive_json()
        assert problem(socket) == "slow-body"


def test_there_is_room_for_so_many_streams_and_one_that_waits_keeps_its_room_for_a_while(
    open_streams: OpenStreams,
) -> None:
    with open_streams(max_streams=1, stream_resume_s=30.0) as streams:
        with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
            socket.send_json({})
            socket.receive_json()
        streams.clock.pass_s(1.0)
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            streams.client.websocket_connect("/stream", headers=streams.bearer("stream")),
        ):
            pass
        assert slug(denied.value) == "busy"
        streams.clock.pass_s(30.0)
        with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
            socket.send_json({})
            assert "ready" in socket.receive_json()


def test_a_caller_who_was_cut_off_goes_on_without_losing_anything(
    streams: Facade, reader: list[Reading], other_reader: list[Reading]
) -> None:
    sound = samples(*reader[:2], *other_reader)
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_json({})
        socket.receive_json()
        whole = said(socket, sound) + ended(socket)
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_json({})
        name = socket.receive_json()["ready"]
        first = said(socket, sound[:320_000])
    other = streams.bearer("stream", client="stranger")
    with streams.client.websocket_connect("/stream", headers=other) as socket:
        socket.send_json({"resume": name})
        assert problem(socket) == "no-stream"
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        # The last event never arrived: it is told again, and the sound goes on where it was heard.
        socket.send_json({"resume": name, "after": first[-2]["seq"]})
        ready = socket.receive_json()
        assert ready["samples"] == 160_000
        again = socket.receive_json()
        assert again == first[-1]
        rest = said(socket, sound[2 * ready["samples"] :]) + ended(socket)
    assert first + rest == whole


def test_a_recalled_token_ends_a_stream(streams: Facade) -> None:
    with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
        socket.send_json({})
        socket.receive_json()
        socket.send_bytes(bytes(3_200))
        assert "heard" in socket.receive_json()
        with streams.tokens() as book:
            book.recall(everything=True)
        streams.clock.pass_s(CHECK_TOKEN_S + 0.1)
        socket.send_bytes(bytes(3_200))
        assert problem(socket) == "bad-token"


def test_a_persons_voice_is_not_checked_without_end(open_streams: OpenStreams, reader: list[Reading]) -> None:
    with open_streams(checks_per_person_per_min=2.0) as streams:
        streams.post("/register", {"tid": "r", "uid": "4711", "audio": enrolment(reader)})
        with streams.client.websocket_connect("/stream", headers=streams.bearer("stream")) as socket:
            socket.send_json({"uid": "4711"})
            socket.receive_json()
            silence = np.zeros(32_000, "<i2").tobytes()
            told: list[dict[str, Any]] = []
            with contextlib.suppress(WebSocketDisconnect):
                for _ in range(16):
                    socket.send_bytes(silence)
                for _ in range(60):
                    told.append(socket.receive_json())
        assert "too-many-requests" in json.dumps(told[-1])
