"""One connection of a stream: admitted before it is accepted, read no faster than it is heard.

Text from the caller is JSON: first a StreamRequest, at the end {"end": true}. All else is binary: int16
little-endian samples, mono, 16 kHz. A message is read after the one before was heard, so TCP slows down a
caller who sends too fast. One who sends or reads nothing is disconnected; the stream waits for them to come
back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from device.api import bodies
from device.api.errors import BAD_STREAM, FAULT, SLOW_BODY, Kind, ProblemError
from device.api.streams.hub import Document, Hub, Session
from device.api.tokens import Token
from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.settings import ApiSettings

log = logging.getLogger("ostiary.api")

MAX_MESSAGE_BYTES = 64_000
"""Two seconds of sound."""
AHEAD_S = 30.0
"""So far ahead of time may sound come, which a caller has kept while it was away."""
CHECK_TOKEN_S = 5.0

Admit = Callable[[], Token]


async def serve(socket: WebSocket, hub: Hub, settings: ApiSettings, admit: Admit) -> None:
    """Serve one connection. `admit` raises ProblemError when the token does not hold."""
    token = admit()
    hub.reserve()
    await socket.accept()
    session: Session | None = None
    try:
        request = bodies.stream_request(_object(await _first(socket, settings.stream_idle_s)))
        if request.resume:
            session = hub.resume(token.client, request)
        else:
            session = await hub.begin(token.client, request)
        send = _sender(socket, settings.stream_idle_s)
        await send({"ready": session.name, "samples": session.samples, "seq": session.told})
        for document in session.after(request.after) if request.resume else ():
            await send(document)
        if await _heard_to_the_end(socket, hub, session, settings, send, admit):
            await send({"done": True, "samples": session.samples, "seq": session.told})
            await socket.close()
    except ProblemError as err:
        await _refuse(socket, err)
    except (WebSocketDisconnect, RuntimeError):  # the caller went away, perhaps while it was told something
        pass
    except DeviceError as err:
        log.error("/stream: %s", err)
        await _refuse(socket, ProblemError(FAULT, "look at this unit's log"))
    finally:
        if session is not None:
            hub.leave(session)


async def _heard_to_the_end(
    socket: WebSocket,
    hub: Hub,
    session: Session,
    settings: ApiSettings,
    send: Callable[[Document], Awaitable[None]],
    admit: Admit,
) -> bool:
    """Hear messages until the caller ends the stream; False for one who only went away."""
    began_s, first, checked_s = time.monotonic(), session.samples, hub.clock().monotonic_s
    while True:
        message = await _next(socket, settings.stream_idle_s)
        if message is None:
            return False
        now_s = hub.clock().monotonic_s
        if now_s - checked_s > CHECK_TOKEN_S:
            admit()
            checked_s = now_s
        if isinstance(message, str):
            if _object(message) != {"end": True}:
                raise ProblemError(BAD_STREAM, 'after the first message the only text is {"end": true}')
            for document in await hub.finish(session):
                await send(document)
            return True
        if len(message) % 2 or not 0 < len(message) <= MAX_MESSAGE_BYTES:
            raise ProblemError(BAD_STREAM, f"a message is 1 to {MAX_MESSAGE_BYTES // 2} samples of two bytes")
        for document in await hub.hear(session, np.frombuffer(message, "<i2").astype(np.int16)):
            await send(document)
        await send({"heard": session.samples})
        ahead_s = (session.samples - first) / SAMPLE_RATE_HZ - (time.monotonic() - began_s)
        if ahead_s > AHEAD_S:
            await asyncio.sleep(ahead_s - AHEAD_S)


def _object(text: str) -> dict[str, Any]:
    if len(text) > 2_048:
        raise ProblemError(BAD_STREAM, "a text message has 2,048 characters at most")
    return bodies.json_object(text.encode("utf-8", "surrogatepass"))


async def _first(socket: WebSocket, idle_s: float) -> str:
    message = await _next(socket, idle_s)
    if not isinstance(message, str):
        raise ProblemError(BAD_STREAM, "the first message is JSON: {} or what docs/api.md names")
    return message


async def _next(socket: WebSocket, idle_s: float) -> str | bytes | None:
    """The next message; None when the connection is gone. Raises ProblemError after `idle_s` of silence."""
    try:
        async with asyncio.timeout(idle_s):
            message = await socket.receive()
    except TimeoutError:
        raise ProblemError(SLOW_BODY, f"nothing came for {idle_s:g} s") from None
    if message["type"] != "websocket.receive":
        return None
    text, data = message.get("text"), message.get("bytes")
    return text if text is not None else data


def _sender(socket: WebSocket, idle_s: float) -> Callable[[Document], Awaitable[None]]:
    async def send(document: Document) -> None:
        try:
            async with asyncio.timeout(idle_s):
                await socket.send_text(json.dumps(document, allow_nan=False))
        except TimeoutError:
            raise ProblemError(SLOW_BODY, f"what was told was not read for {idle_s:g} s") from None

    return send


async def _refuse(socket: WebSocket, err: ProblemError) -> None:
    """Say why in a last message, and close. The server cuts off a caller who does not read it."""
    try:
        async with asyncio.timeout(2.0):
            await socket.send_text(json.dumps({"problem": err.document("/stream")}))
            await socket.close(_code(err.kind), err.kind.slug)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        pass


def _code(kind: Kind) -> int:
    """4000 and the status, in the range for private use (RFC 6455, 7.4.2)."""
    return 4_000 + kind.status
