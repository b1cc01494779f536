"""The OpenAPI 3.1 document of the facade."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from device.api import errors
from device.api.bodies import TID_PATTERN, UID_PATTERN
from device.api.errors import Kind
from device.api.wire.schemas import Schema, at, schemas

_COMMON = (errors.NO_TOKEN, errors.WRONG_SCOPE, errors.TOO_MANY, errors.FAULT)
_BODY = (
    *_COMMON,
    errors.BAD_JSON,
    errors.NO_LENGTH,
    errors.TOO_LARGE,
    errors.MEDIA_TYPE,
    errors.INVALID,
    errors.SLOW_BODY,
    errors.OTHER_BODY,
    errors.GONE,
)


def document(max_body_bytes: int) -> Schema:
    """The whole document, as JSON types."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ostiary REST facade",
            "version": _version(),
            "description": "Asks a door unit for its three checks: the right words, the right voice, a live "
            "human. Results inform; the caller decides, unless it asks for a door's rule. A transaction id "
            "is idempotent: the same body gives the same result, another body is refused. "
            f"A body may have {max_body_bytes} bytes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/otp": {
                "post": _post("otp", "A phrase for a person to speak, once", "Otp", "OtpRequest", _BODY)
            },
            "/register": {"post": _slow_post("register", "Enrol a person from recordings", "Register")},
            "/verify": {"post": _slow_post("verify", "Check one recording", "Verify", errors.NO_CODE)},
            "/results/{tid}": {"get": _result()},
            "/stream": {"get": _stream()},
            "/people": {"get": _people()},
            "/people/{uid}": {"delete": _forget()},
            "/token": {"post": _renew()},
            "/healthz": {
                "get": _open("healthz", "Whether the judge thread moves", _json({"$ref": at("Health")}))
            },
            "/metrics": {
                "get": _open(
                    "metrics",
                    "Figures of this process for Prometheus",
                    {"text/plain": {"schema": {"type": "string"}}},
                )
            },
            "/openapi.json": {
                "get": _open("openapi", "This document", _json({"type": "object"})),
            },
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Short-lived, scoped; `ostiary api token` issues it.",
                },
                "certificate": {"type": "mutualTLS", "description": "Signed by the unit's client CA."},
            },
            "schemas": schemas(),
        },
    }


def _version() -> str:
    try:
        return version("ostiary")
    except PackageNotFoundError:  # run from a tree that was never installed
        return "0"


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _problems(kinds: tuple[Kind, ...]) -> Schema:
    answers: Schema = {}
    for kind in kinds:
        headers: Schema = {}
        if kind.status == 401:
            headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
        if kind.status in (429, 503):
            headers["Retry-After"] = {"schema": {"type": "string", "pattern": "^[0-9]+$"}}
        answers[str(kind.status)] = {
            "description": kind.title,
            "content": {"application/problem+json": {"schema": {"$ref": at("Problem")}}},
            **({"headers": headers} if headers else {}),
        }
    return answers


def _secured(scope: str) -> list[Schema]:
    # The scopes of a bearer token may be named since OpenAPI 3.1.
    return [{"token": [scope], "certificate": []}]


def _post(scope: str, summary: str, answer: str, body: str, kinds: tuple[Kind, ...]) -> Schema:
    return {
        "operationId": scope,
        "summary": summary,
        "security": _secured(scope),
        "requestBody": {"required": True, "content": _json({"$ref": at(body)})},
        "responses": {
            "200": {"description": summary, "content": _json({"$ref": at(answer)})},
            **_problems((*kinds, errors.NO_DOOR)),
        },
    }


def _slow_post(scope: str, summary: str, name: str, *more: Kind) -> Schema:
    kinds = (*_BODY, errors.UNREADABLE, errors.BUSY, errors.LOG_FULL, *more)
    operation = _post(scope, summary, f"{name}Result", f"{name}Request", kinds)
    operation["responses"]["202"] = _accepted()
    for status in ("200", "202"):
        operation["responses"][status]["links"] = {
            "result": {"operationId": "results", "parameters": {"tid": "$response.body#/tid"}}
        }
    return operation


def _accepted() -> Schema:
    return {
        "description": "Not answered yet; fetch it from Location",
        "headers": {"Location": {"schema": {"type": "string"}}},
        "content": _json({"$ref": at("Waiting")}),
    }


def _result() -> Schema:
    either = {"oneOf": [{"$ref": at("VerifyResult")}, {"$ref": at("RegisterResult")}]}
    return {
        "operationId": "results",
        "summary": "The result of a transaction",
        "security": _secured("results"),
        "parameters": [
            {
                "name": "tid",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": TID_PATTERN},
            }
        ],
        "responses": {
            "200": {"description": "What /verify or /register answered", "content": _json(either)},
            "202": _accepted(),
            **_problems((*_COMMON, errors.NO_RESULT, errors.GONE)),
        },
    }


def _stream() -> Schema:
    return {
        "operationId": "stream",
        "summary": "Who is speaking, over a WebSocket (RFC 6455)",
        "description": "The first message is text, a StreamRequest; then binary ones of int16 little-endian "
        'samples, mono, 16 kHz, 64,000 bytes at most; at the end the text {"end": true}. What is told is '
        "text: StreamReady, then StreamEvent and StreamHeard, at last StreamDone or StreamProblem. A "
        "connection that ends with a problem has the close code 4000 plus its status.",
        "security": _secured("stream"),
        "responses": {
            "101": {"description": "The WebSocket is open"},
            **_problems((*_COMMON, errors.UPGRADE, errors.BUSY)),
        },
    }


def _people() -> Schema:
    return {
        "operationId": "people",
        "summary": "Who is enrolled, and until when, in the order of ids",
        "security": _secured("people"),
        "parameters": [
            {"name": "after", "in": "query", "schema": {"type": "string", "pattern": UID_PATTERN}},
        ],
        "responses": {
            "200": {"description": "Up to 1,000 people", "content": _json({"$ref": at("People")})},
            **_problems((*_COMMON, errors.INVALID)),
        },
    }


def _forget() -> Schema:
    return {
        "operationId": "forget",
        "summary": "Erase a person's voiceprint",
        "security": _secured("forget"),
        "parameters": [
            {
                "name": "uid",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": UID_PATTERN},
            }
        ],
        "responses": {
            "200": {"description": "Erased", "content": _json({"$ref": at("Forgotten")})},
            **_problems((*_COMMON, errors.INVALID, errors.NO_PERSON)),
        },
    }


def _renew() -> Schema:
    return {
        "operationId": "renew",
        "summary": "A fresh token for the one sent, when it is tied to this client certificate",
        "security": [{"token": [], "certificate": []}],
        "responses": {
            "200": {
                "description": "It ends as the first one did, later",
                "content": _json({"$ref": at("Token")}),
            },
            **_problems((*_COMMON, errors.NOT_RENEWABLE)),
        },
    }


def _open(name: str, summary: str, content: Schema) -> Schema:
    answers: Schema = {"200": {"description": summary, "content": content}}
    if name == "healthz":
        answers["503"] = {"description": "It does not", "content": content}
    return {"operationId": name, "summary": summary, "security": [], "responses": answers}
