"""JSON schemas of the facade's requests and answers, with the patterns that check bodies."""

from __future__ import annotations

from typing import Any

from device.access.challenge import Style
from device.api.bodies import (
    BASE64_PATTERN,
    CODE_PATTERN,
    MAX_PHRASE_CHARACTERS,
    MAX_RECORDINGS,
    NAME_PATTERN,
    STREAM_PATTERN,
    TEXT_PATTERN,
    TID_PATTERN,
    UID_PATTERN,
)
from device.api.errors import KINDS
from device.evidence.enrolled import ENROLMENT_PHRASES
from device.evidence.vocabulary import Language
from device.models.speaker import MIN_ENROLMENT

Schema = dict[str, Any]
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_STRING_OR_NULL: Schema = {"type": ["string", "null"]}


def at(name: str) -> str:
    """Where the schema `name` stands in the document."""
    return f"#/components/schemas/{name}"


def object_of(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """An object of these members and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def schemas() -> Schema:
    """Every schema by name."""
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
        "oneOf": [{"type": "null"}, object_of({"code": {"type": "string"}, "detail": {"type": "string"}})]
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
        "OtpRequest": object_of(
            {
                "tid": tid,
                "uid": uid,
                "text": {
                    "type": "string",
                    "pattern": TEXT_PATTERN,
                    "description": "Any letters, in NFC; no word of two alphabets.",
                },
                "style": {"enum": [str(style) for style in Style]},
                "language": {
                    "enum": [str(language) for language in Language],
                    "description": "Else that of the unit's settings. Some styles are English only.",
                },
                "door": name,
                "phrase": {
                    "type": "string",
                    "maxLength": MAX_PHRASE_CHARACTERS,
                    "description": "The caller's own: 3 to 12 words; not with door or style.",
                },
            },
            optional=("text", "style", "door", "phrase", "language"),
        ),
        "RegisterRequest": object_of(
            {
                "tid": tid,
                "uid": uid,
                "audio": {
                    "type": "array",
                    "items": audio,
                    "minItems": MIN_ENROLMENT,
                    "maxItems": MAX_RECORDINGS,
                    "description": f"One phrase each, {ENROLMENT_PHRASES} of them: with fewer the person is "
                    "refused more often.",
                },
                "consent_to": {**name, "description": "Who took the consent; production needs it."},
            },
            optional=("consent_to",),
        ),
        "VerifyRequest": object_of(
            {
                "tid": tid,
                "uid": uid,
                "audio": audio,
                "code": {**code, "description": "The caller's own code, when /otp was not asked."},
                "door": {**name, "description": "Also say what this door's rule decides."},
            },
            optional=("code", "door"),
        ),
        "Otp": object_of(
            {
                "tid": tid,
                "uid": uid,
                "style": {"enum": [str(style) for style in Style]},
                "language": {"enum": [str(language) for language in Language]},
                "phrase": {"type": "string"},
                "display": {"type": "string"},
                "code": {"oneOf": [{"type": "null"}, code]},
                "issued_at": {"type": "string", "format": "date-time"},
                "expires_in_s": number,
            }
        ),
        "Waiting": object_of({"tid": tid, "status": {"const": "waiting"}}),
        "VerifyResult": object_of(
            {
                **done,
                "kind": {"const": "verify"},
                "outcome": {"enum": ["judged", "unusable"]},
                "phrase_from": {"enum": ["otp", "caller"]},
                "enrolled": {"type": "boolean"},
                "evidence": {"oneOf": [{"type": "null"}, {"$ref": at("Evidence")}]},
                "decision": {"oneOf": [{"type": "null"}, {"$ref": at("Decision")}]},
            }
        ),
        "RegisterResult": object_of(
            {
                **done,
                "kind": {"const": "register"},
                "outcome": {"enum": ["registered", "refused", "unusable"]},
                "record": _STRING_OR_NULL,
                "spoof_llrs": {"type": "array", "items": number},
                "model_versions": names,
            }
        ),
        "Evidence": object_of(
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
        "Decision": object_of(
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
        "People": object_of(
            {
                "people": {
                    "type": "array",
                    "items": object_of(
                        {
                            "uid": uid,
                            "record": {"type": "string", "format": "uuid"},
                            "until": {"type": "string", "format": "date-time"},
                            "ended": {"type": "boolean"},
                        }
                    ),
                },
                "more": {"type": "boolean"},
            }
        ),
        "Forgotten": object_of(
            {
                "uid": uid,
                "record": {"type": "string", "format": "uuid"},
                "forgotten_at": {"type": "string", "format": "date-time"},
                "receipt": {"type": "string", "description": "Signed, in hexadecimal digits."},
            }
        ),
        "Token": object_of(
            {"token": {"type": "string"}, "token_id": {"type": "string"}, "expires_s": {"type": "integer"}}
        ),
        "StreamRequest": object_of(
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
        "StreamReady": object_of(
            {
                "ready": {"type": "string", "pattern": STREAM_PATTERN},
                "samples": {"type": "integer", "description": "Heard so far: go on from here."},
                "seq": {"type": "integer"},
            }
        ),
        "StreamHeard": object_of({"heard": {"type": "integer", "description": "Samples, of all messages."}}),
        "StreamEvent": object_of(
            {
                "seq": {"type": "integer", "minimum": 1},
                "event": {"enum": ["turns", "window", "changed", "telephone"]},
                "at_s": number,
                "from_s": number,
                "turns": {
                    "type": "array",
                    "items": object_of({"start_s": number, "end_s": number, "speaker": {"type": "string"}}),
                },
                "people": {"type": "integer"},
                "llr": _NUMBER_OR_NULL,
                "trust": number,
                "state": {"enum": ["TRUSTED", "DOUBTED"]},
                "detail": {"type": "string"},
            },
            optional=("from_s", "turns", "people", "llr", "trust", "state", "detail"),
        ),
        "StreamDone": object_of(
            {"done": {"const": True}, "samples": {"type": "integer"}, "seq": {"type": "integer"}}
        ),
        "StreamProblem": object_of({"problem": {"$ref": at("Problem")}}),
        "Health": object_of({"status": {"enum": ["ok", "stuck"]}}),
        "Problem": {
            **object_of(
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
