"""The HTTP side of the facade: routes, authentication before the body is read, problem documents."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from device.api import bodies
from device.api.errors import (
    BAD_REQUEST,
    FAULT,
    MEDIA_TYPE,
    METHOD,
    NO_LENGTH,
    NO_RESULT,
    NOT_FOUND,
    SLOW_BODY,
    TOO_LARGE,
    UPGRADE,
    Kind,
    ProblemError,
)
from device.api.limits import Stay
from device.api.metrics import CONTENT_TYPE
from device.api.openapi import document
from device.api.service import Service
from device.api.streams.socket import serve
from device.api.tokens import Token
from device.errors import DeviceError

log = logging.getLogger("ostiary.api")

PROBLEM_TYPE = "application/problem+json"
MAX_OTP_BYTES = 8192
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(service: Service) -> Starlette:
    """The ASGI application on an open service."""
    routes = Routes(service)
    table: list[tuple[str, str, Endpoint]] = [
        ("/otp", "POST", routes.otp),
        ("/register", "POST", routes.register),
        ("/verify", "POST", routes.verify),
        ("/results/{tid}", "GET", routes.result),
        ("/people", "GET", routes.people),
        ("/people/{uid}", "DELETE", routes.forget),
        ("/token", "POST", routes.renew),
        ("/healthz", "GET", routes.healthz),
        ("/metrics", "GET", routes.metrics),
        ("/openapi.json", "GET", routes.openapi),
        ("/stream", "GET", routes.no_stream),
    ]
    app = Starlette(
        routes=[
            *(
                Route(path, _guarded(service, path, endpoint), methods=[method])
                for path, method, endpoint in table
            ),
            WebSocketRoute("/stream", routes.stream),
        ],
        exception_handlers={HTTPException: _unrouted},
    )
    app.router.redirect_slashes = False
    return app


class Routes:
    """One method a route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def otp(self, request: Request) -> Response:
        token = self._admit(request, "otp")
        size = _length(request, MAX_OTP_BYTES)
        body = await body_of(request, size, self._service.settings.body_timeout_s)
        return _answer(
            await self._service.otp(
                token, bodies.otp_request(bodies.json_object(body), self._service.usual_language)
            )
        )

    async def register(self, request: Request) -> Response:
        token = self._admit(request, "register")
        return await self._audio(
            request, bodies.register_request, functools.partial(self._service.register, token)
        )

    async def verify(self, request: Request) -> Response:
        token = self._admit(request, "verify")
        return await self._audio(
            request, bodies.verify_request, functools.partial(self._service.verify, token)
        )

    async def result(self, request: Request) -> Response:
        token = self._admit(request, "results")
        tid = request.path_params["tid"]
        if not tid.isascii() or len(tid) > 64:
            raise ProblemError(NO_RESULT, "nothing was answered under this transaction id")
        found = self._service.result(token, tid)
        return self._waiting(tid) if found is None else _answer(found)

    async def people(self, request: Request) -> Response:
        self._admit(request, "people")
        return _answer(await self._service.people(bodies.uid_of(request.query_params.get("after", ""))))

    async def forget(self, request: Request) -> Response:
        token = self._admit(request, "forget")
        return _answer(await self._service.forget(token, bodies.uid_of(request.path_params["uid"])))

    async def renew(self, request: Request) -> Response:
        return _answer(self._service.renew(self._admit(request, None)))

    async def healthz(self, request: Request) -> Response:
        if self._service.healthy():
            return _answer({"status": "ok"})
        return _answer({"status": "stuck"}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, request: Request) -> Response:
        text = self._service.metrics.text(self._service.gauges())
        return PlainTextResponse(text, media_type=CONTENT_TYPE, headers=_HEADERS)

    async def openapi(self, request: Request) -> Response:
        return _answer(document(self._service.settings.max_body_bytes))

    async def no_stream(self, request: Request) -> Response:
        self._admit(request, "stream")
        raise ProblemError(UPGRADE, "open a WebSocket here (RFC 6455); see docs/api.md")

    async def stream(self, socket: WebSocket) -> None:
        """A WebSocket; refused before it is accepted, with an answer in HTTP."""
        service = self._service
        try:
            await serve(socket, service.streams, service.settings, lambda: self._admit(socket, "stream"))
        except ProblemError as err:
            service.metrics.responded("/stream", err.kind.status)
            await socket.send_denial_response(problem(socket, err))

    def _admit(self, request: HTTPConnection, scope: str | None) -> Token:
        certificate = request.scope.get("ostiary.certificate", "")
        values = request.headers.getlist("authorization")
        return self._service.admit(values[0] if len(values) == 1 else None, scope, certificate)

    async def _audio(
        self,
        request: Request,
        parse: Callable[[dict[str, Any]], Any],
        answer: Callable[[Any, Stay], Awaitable[dict[str, Any] | None]],
    ) -> Response:
        """Reserve room, then read the body; the room goes to the job, or back."""
        settings = self._service.settings
        size = _length(request, settings.max_body_bytes)
        stay = Stay(self._service.room, size)
        try:
            body = await body_of(request, size, settings.body_timeout_s, stay)
            parsed = parse(bodies.json_object(body))
            found = await answer(parsed, stay)
        finally:
            if not stay.handed_on:
                stay.end()
        return self._waiting(parsed.tid) if found is None else _answer(found)

    def _waiting(self, tid: str) -> Response:
        headers = {**_HEADERS, "Location": f"/results/{tid}", "Retry-After": "1"}
        return JSONResponse({"tid": tid, "status": "waiting"}, HTTPStatus.ACCEPTED, headers)


def _length(request: Request, most: int) -> int:
    """The announced length of a JSON body, not yet read. Raises ProblemError."""
    given = request.headers.get("content-length", "")
    if not given.isdigit():
        raise ProblemError(NO_LENGTH, "send the body with its Content-Length, not in chunks")
    if len(given) > 12 or int(given) > most:
        raise ProblemError(TOO_LARGE, f"the body may have {most} bytes")
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise ProblemError(MEDIA_TYPE, "send application/json in UTF-8")
    return int(given)


async def body_of(request: Request, size: int, timeout_s: float, stay: Stay | None = None) -> bytes:
    """The body of at most `size` bytes, within `timeout_s`. Raises ProblemError."""
    body = bytearray()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            arriving = stay.arriving(lambda: limit.reschedule(loop.time())) if stay else nullcontext()
            with arriving:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > size:
                        raise ProblemError(TOO_LARGE, "the body is longer than its Content-Length")
    except TimeoutError:
        raise ProblemError(
            SLOW_BODY, f"the body must arrive within {timeout_s:g} s, and sooner when others wait"
        ) from None
    return bytes(body)


def _guarded(service: Service, path: str, endpoint: Endpoint) -> Endpoint:
    """`endpoint`, with exceptions made problem documents and responses counted."""

    @functools.wraps(endpoint)
    async def served(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except ProblemError as err:
            response = problem(request, err)
        except ClientDisconnect:
            response = problem(request, ProblemError(BAD_REQUEST, "the connection closed early"))
        except DeviceError as err:
            log.error("%s: %s", path, err)
            response = problem(request, ProblemError(FAULT, "look at this unit's log"))
        except Exception as err:  # a supervisor: the caller gets a problem, the log the trace
            log.error("%s: %s", path, type(err).__name__, exc_info=err)
            response = problem(request, ProblemError(FAULT, "look at this unit's log"))
        service.metrics.responded(path, response.status_code)
        return response

    return served


async def _unrouted(request: Request, err: Exception) -> Response:
    """What no route takes: an unknown path or another method."""
    if not isinstance(err, HTTPException):
        raise err
    known: dict[int, tuple[Kind, str]] = {
        404: (NOT_FOUND, "see /openapi.json for what is here"),
        405: (METHOD, "see /openapi.json for what is allowed"),
    }
    kind, detail = known.get(err.status_code, (BAD_REQUEST, "the request was not understood"))
    response = problem(request, ProblemError(kind, detail))
    response.headers.update(err.headers or {})
    return response


def problem(request: HTTPConnection, err: ProblemError) -> Response:
    """RFC 9457."""
    return JSONResponse(
        err.document(request.url.path),
        err.kind.status,
        {**_HEADERS, **err.headers()},
        media_type=PROBLEM_TYPE,
    )


def _answer(body: dict[str, Any], status: int = HTTPStatus.OK) -> Response:
    return JSONResponse(body, status, _HEADERS)
