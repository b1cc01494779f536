"""The OpenAPI 3.1 document of the facade. Its patterns are those that the bodies are checked with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from device.access.challenge import Style
from device.api import errors
from device.api.bodies import (
    BASE64_PATTERN,
    CODE_PATTERN,
    MAX_RECORDINGS,
    NAME_PATTERN,
    STREAM_PATTERN,
    TEXT_PATTERN,
    TID_PATTERN,
    UID_PATTERN,
)
from device.api.errors import KINDS, Kind
from device.models.speaker import MIN_ENROLMENT

Schema = dict[str, Any]
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_STRING_OR_NULL: Schema = {"type": ["string", "null"]}
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
            "/healthz": {
                "get": _open("healthz", "Whether the judge thread moves", _json({"$ref": _at("Health")}))
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
            "schemas": _schemas(),
        },
    }


def _version() -> str:
    try:
        return version("ostiary")
    except PackageNotFoundError:  # run from a tree that was never installed
        return "0"


def _at(name: str) -> str:
    return f"#/components/schemas/{name}"


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
            "content": {"application/problem+json": {"schema": {"$ref": _at("Problem")}}},
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
        "requestBody": {"required": True, "content": _json({"$ref": _at(body)})},
        "responses": {
            "200": {"description": summary, "content": _json({"$ref": _at(answer)})},
            **_problems((*kinds, errors.NO_DOOR)),
        },
    }


def _slow_post(scope: str, summary: str, name: str, *more: Kind) -> Schema:
    operation = _post(
        scope, summary, f"{name}Result", f"{name}Request", (*_BODY, errors.UNREADABLE, errors.BUSY, *more)
    )
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
        "content": _json({"$ref": _at("Waiting")}),
    }


def _result() -> Schema:
    either = {"oneOf": [{"$ref": _at("VerifyResult")}, {"$ref": _at("RegisterResult")}]}
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


def _open(name: str, summary: str, content: Schema) -> Schema:
    answers: Schema = {"200": {"description": summary, "content": content}}
    if name == "healthz":
        answers["503"] = {"description": "It does not", "content": content}
    return {"operationId": name, "summary": summary, "security": [], "responses": answers}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _schemas() -> Schema:
    tid: Schema = {"type": "string", "pattern": TID_PATTERN}
    name: Schema = {"type": "string", "pattern": NAME_PATTERN}
    uid: Schema = {
        "type": "string",
        "pattern": UID_PATTERN,
        "description": "Letters with their accents, digits and signs; case, dash, colon and space do "
        "not count, and answers have the normal form.",
    }
    audio: Schema = {
        "type": "string",
        "contentEncoding": "base64",
        "minLength": 4,
        "pattern": BASE64_PATTERN,
        "description": "The content of a WAV or FLAC file.",
    }
    code: Schema = {"type": "string", "pattern": CODE_PATTERN}
    number: Schema = {"type": "number"}
    reason: Schema = {
        "oneOf": [{"type": "null"}, _object({"code": {"type": "string"}, "detail": {"type": "string"}})]
    }
    done: Schema = {
        "tid": tid,
        "uid": uid,
        "status": {"const": "done"},
        "reason": reason,
        "finished_at": {"type": "string", "format": "date-time"},
        "waited_ms": number,
        "took_ms": number,
    }
    names: Schema = {"type": "array", "items": {"type": "string"}}
    return {
        "OtpRequest": _object(
            {
                "tid": tid,
                "uid": uid,
                "text": {
                    "type": "string",
                    "pattern": TEXT_PATTERN,
                    "description": "Any letters, in NFC; no word of two alphabets.",
                },
                "style": {"enum": [str(style) for style in Style]},
                "door": name,
            },
            optional=("text", "style", "door"),
        ),
        "RegisterRequest": _object(
            {
                "tid": tid,
                "uid": uid,
                "audio": {
                    "type": "array",
                    "items": audio,
                    "minItems": MIN_ENROLMENT,
                    "maxItems": MAX_RECORDINGS,
                },
                "consent_to": {**name, "description": "Who took the consent; production needs it."},
            },
            optional=("consent_to",),
        ),
        "VerifyRequest": _object(
            {
                "tid": tid,
                "uid": uid,
                "audio": audio,
                "code": {**code, "description": "The caller's own code, when /otp was not asked."},
                "door": {**name, "description": "Also say what this door's rule decides."},
            },
            optional=("code", "door"),
        ),
        "Otp": _object(
            {
                "tid": tid,
                "uid": uid,
                "style": {"enum": [str(style) for style in Style]},
                "phrase": {"type": "string"},
                "display": {"type": "string"},
                "code": {"oneOf": [{"type": "null"}, code]},
                "issued_at": {"type": "string", "format": "date-time"},
                "expires_in_s": number,
            }
        ),
        "Waiting": _object({"tid": tid, "status": {"const": "waiting"}}),
        "VerifyResult": _object(
            {
                **done,
                "kind": {"const": "verify"},
                "outcome": {"enum": ["judged", "unusable"]},
                "phrase_from": {"enum": ["otp", "caller"]},
                "enrolled": {"type": "boolean"},
                "evidence": {"oneOf": [{"type": "null"}, {"$ref": _at("Evidence")}]},
                "decision": {"oneOf": [{"type": "null"}, {"$ref": _at("Decision")}]},
            }
        ),
        "RegisterResult": _object(
            {
                **done,
                "kind": {"const": "register"},
                "outcome": {"enum": ["registered", "refused", "unusable"]},
                "record": _STRING_OR_NULL,
                "spoof_llrs": {"type": "array", "items": number},
                "model_versions": names,
            }
        ),
        "Evidence": _object(
            {
                "phrase_llr": _NUMBER_OR_NULL,
                "speaker_llr": _NUMBER_OR_NULL,
                "spoof_llr": _NUMBER_OR_NULL,
                "transcript": {"type": "string", "description": "Words outside the phrase are redacted."},
                "quality": {"type": "object", "additionalProperties": _NUMBER_OR_NULL},
                "timings": {"type": "object", "additionalProperties": number},
                "context": {"type": "object", "additionalProperties": _NUMBER_OR_NULL},
                "model_versions": names,
            }
        ),
        "Decision": _object(
            {
                "decision": {"type": "string"},
                "opens": {"type": "boolean"},
                "code": {"type": "string"},
                "reason": {"type": "string"},
                "door": name,
                "claim": name,
                "thresholds": {"type": "object", "additionalProperties": _NUMBER_OR_NULL},
            }
        ),
        "StreamRequest": _object(
            {
                "uid": {**uid, "description": "Who should be speaking; each window of speech is scored."},
                "known": {"type": "boolean", "description": "Name enrolled people whose consent covers it."},
                "resume": {
                    "type": "string",
                    "pattern": STREAM_PATTERN,
                    "description": "Go on with this stream after a broken connection; alone with `after`.",
                },
                "after": {"type": "integer", "minimum": 0, "description": "The last `seq` that arrived."},
            },
            optional=("uid", "known", "resume", "after"),
        ),
        "StreamReady": _object(
            {
                "ready": {"type": "string", "pattern": STREAM_PATTERN},
                "samples": {"type": "integer", "description": "Heard so far: go on from here."},
                "seq": {"type": "integer"},
            }
        ),
        "StreamHeard": _object({"heard": {"type": "integer", "description": "Samples, of all messages."}}),
        "StreamEvent": _object(
            {
                "seq": {"type": "integer", "minimum": 1},
                "event": {"enum": ["turns", "window", "changed", "telephone"]},
                "at_s": number,
                "from_s": number,
                "turns": {
                    "type": "array",
                    "items": _object({"start_s": number, "end_s": number, "speaker": {"type": "string"}}),
                },
                "people": {"type": "integer"},
                "llr": _NUMBER_OR_NULL,
                "trust": number,
                "state": {"enum": ["TRUSTED", "DOUBTED"]},
                "detail": {"type": "string"},
            },
            optional=("from_s", "turns", "people", "llr", "trust", "state", "detail"),
        ),
        "StreamDone": _object(
            {"done": {"const": True}, "samples": {"type": "integer"}, "seq": {"type": "integer"}}
        ),
        "StreamProblem": _object({"problem": {"$ref": _at("Problem")}}),
        "Health": _object({"status": {"enum": ["ok", "stuck"]}}),
        "Problem": {
            **_object(
                {
                    "type": {"enum": [kind.type for kind in KINDS]},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "instance": {"type": "string"},
                    "errors": names,
                },
                optional=("errors",),
            ),
            "description": "RFC 9457.",
        },
    }
