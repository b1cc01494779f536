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


def _operation(
    name: str, summary: str, answers: Schema, *parameters: Schema, security: list[Schema] | None = None
) -> Schema:
    """One method of a path; it needs a token of the scope `name`, unless `security` says otherwise."""
    # The scopes of a bearer token may be named since OpenAPI 3.1.
    secured = [{"token": [name], "certificate": []}] if security is None else security
    given: Schema = {"parameters": list(parameters)} if parameters else {}
    return {"operationId": name, "summary": summary, "security": secured, **given, "responses": answers}


def _parameter(name: str, place: str, pattern: str) -> Schema:
    """A text in the path, which is required, or in the query."""
    required: Schema = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, **required, "schema": {"type": "string", "pattern": pattern}}


def _told(description: str, name: str) -> Schema:
    return {"description": description, "content": _json({"$ref": at(name)})}


def _post(scope: str, summary: str, answer: str, body: str, kinds: tuple[Kind, ...]) -> Schema:
    answers = {"200": _told(summary, answer), **_problems((*kinds, errors.NO_DOOR))}
    asked = {"required": True, "content": _json({"$ref": at(body)})}
    return {**_operation(scope, summary, answers), "requestBody": asked}


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
    location = {"headers": {"Location": {"schema": {"type": "string"}}}}
    return {**_told("Not answered yet; fetch it from Location", "Waiting"), **location}


def _result() -> Schema:
    either = {"oneOf": [{"$ref": at("VerifyResult")}, {"$ref": at("RegisterResult")}]}
    answers = {
        "200": {"description": "What /verify or /register answered", "content": _json(either)},
        "202": _accepted(),
        **_problems((*_COMMON, errors.NO_RESULT, errors.GONE)),
    }
    tid = _parameter("tid", "path", TID_PATTERN)
    return _operation("results", "The result of a transaction", answers, tid)


def _stream() -> Schema:
    answers = {
        "101": {"description": "The WebSocket is open"},
        **_problems((*_COMMON, errors.UPGRADE, errors.BUSY)),
    }
    return {
        **_operation("stream", "Who is speaking, over a WebSocket (RFC 6455)", answers),
        "description": "The first message is text, a StreamRequest; then binary ones of int16 little-endian "
        'samples, mono, 16 kHz, 64,000 bytes at most; at the end the text {"end": true}. What is told is '
        "text: StreamReady, then StreamEvent and StreamHeard, at last StreamDone or StreamProblem. A "
        "connection that ends with a problem has the close code 4000 plus its status.",
    }


def _people() -> Schema:
    answers = {"200": _told("Up to 1,000 people", "People"), **_problems((*_COMMON, errors.INVALID))}
    summary = "Who is enrolled, and until when, in the order of ids"
    return _operation("people", summary, answers, _parameter("after", "query", UID_PATTERN))


def _forget() -> Schema:
    problems = _problems((*_COMMON, errors.INVALID, errors.NO_PERSON))
    answers = {"200": _told("Erased", "Forgotten"), **problems}
    return _operation(
        "forget", "Erase a person's voiceprint", answers, _parameter("uid", "path", UID_PATTERN)
    )


def _renew() -> Schema:
    summary = "A fresh token for the one sent, when it is tied to this client certificate"
    answers = {
        "200": _told("It ends as the first one did, later", "Token"),
        **_problems((*_COMMON, errors.NOT_RENEWABLE)),
    }
    return _operation("renew", summary, answers, security=[{"token": [], "certificate": []}])


def _open(name: str, summary: str, content: Schema) -> Schema:
    answers: Schema = {"200": {"description": summary, "content": content}}
    if name == "healthz":
        answers["503"] = {"description": "It does not", "content": content}
    return _operation(name, summary, answers, security=[])
