"""The one encoding of an event, as a pattern: what does not match it is no event.

`docs/format.md` gives an event as a map of numbered fields in the deterministic encoding (RFC 8949 4.2.1), so
each field has one place and each value one spelling. A registry reads thousands of events a second, so one
regular expression checks types, sizes, order and shortest forms; then the contents of fields are looked up or
compared. Nothing is decoded that was not matched, nor encoded again for comparison.
"""

from __future__ import annotations

import functools
import itertools
import re
import struct
from collections.abc import Callable
from typing import NamedTuple, NewType

from sync.errors import MalformedError
from sync.vocabulary import KEYSTORES, KINDS, REASONS, SCORES

VERSION = 1
MAX_EVENT_BYTES = 1024
MAX_TIME_MS = 253_402_300_799_999  # the end of year 9999
MAX_SEQUENCE = 2**53  # exact in JSON and JavaScript too
MAX_SCORE = 1e6
MAX_TIMING_MS = 3_600_000
MAX_MODELS = 8
MAX_TEXT = 65  # of anything that a pattern below allows

UnitId = NewType("UnitId", str)
"""`site/unit`, both slugs: the certificate's common name and the middle of every topic."""

_SLUG = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
UNIT = re.compile(rf"{_SLUG}/{_SLUG}")
DOOR = re.compile(_SLUG)
# A version has a digit and no blanks; "maria rossi" and "Maria" have not.
VERSION_NAME = re.compile(r"(?=[^0-9]*[0-9])[a-z0-9][a-z0-9._+:@/-]{0,63}")

# Whole numbers in their shortest form. Behind a text comes the number of the next field, which is below 24,
# or nothing: neither can be part of a text, so a text ends by itself and its length is compared afterwards.
# It is never tried shorter (`++`), and every choice is made by one byte: hostile bytes cost no more.
UINT = rb"(?:[\x00-\x17]|\x18[\x18-\xff]|\x19(?!\x00)..|\x1a(?!\x00\x00).{4}|\x1b(?!\x00{4}).{8})"
_MS = (  # to MAX_TIMING_MS = 0x36ee80
    rb"(?:[\x00-\x17]|\x18[\x18-\xff]|\x19(?!\x00)..|\x1a\x00(?:[\x01-\x35]..|\x36[\x00-\xed].|\x36\xee[\x00-\x80]))"
)
TEXT = rb"[\x60-\x78][\x18-\x7a]++"
_FLOAT = rb"\xf9..|\xfa.{4}|\xfb.{8}"
_PSEUDONYM = rb".{6}[\x80-\x8f].[\x80-\xbf].{7}"  # RFC 9562: version 8
_EVENT = re.compile(
    rb"[\xab-\xb6]\x00\x01"
    rb"\x01(" + TEXT + rb")"
    rb"\x02(" + UINT + rb")"
    rb"\x03\x50(.{16})"
    rb"\x04(" + UINT + rb")"
    rb"\x05(" + UINT + rb")"
    rb"\x06(" + UINT + rb")"
    rb"\x07(" + TEXT + rb")"
    rb"\x08(" + TEXT + rb")"
    rb"\x09(" + TEXT + rb")"
    rb"(?:\x0a\x50(.{16}))?"
    rb"(?:\x0b\x50(" + _PSEUDONYM + rb"))?"
    rb"(?:\x0c(" + _FLOAT + rb"))?"
    rb"(?:\x0d(" + _FLOAT + rb"))?"
    rb"(?:\x0e(" + _FLOAT + rb"))?"
    rb"(?:\x0f([\x81-\x88][\x18-\x7a]++))?"
    rb"(?:\x10(" + TEXT + rb"))?"
    rb"(?:\x11\x85((?:" + _MS + rb"){5}))?"
    rb"\x12(" + TEXT + rb")"
    rb"(?:\x13(" + UINT + rb"))?"
    rb"(?:\x14(\xf5))?"
    rb"(?:\x15([\xa1-\xb7].+))?",
    re.DOTALL,
)
_ALL_FIELDS = 0xA0 + 22
_PART = re.compile(rb"[\x00-\x17]|\x18.|\x19..|\x1a.{4}", re.DOTALL)
_SCORE = re.compile(rb"([\x60-\x77])([a-z_]+)(" + _FLOAT + rb")", re.DOTALL)
_DOUBLE, _SINGLE, _HALF = struct.Struct(">d"), struct.Struct(">f"), struct.Struct(">e")
_LARGEST_HALF = 65504.0


class EventFields(NamedTuple):
    """The checked values of an event; ids are their 16 bytes. `sync.events.Record` has them as objects."""

    unit: UnitId
    sequence: int
    event_id: bytes
    time_ms: int
    boot: int
    monotonic_ms: int
    door: str
    kind: str
    reason: str
    attempt: bytes | None
    person: bytes | None
    phrase_llr: float | None
    speaker_llr: float | None
    spoof_llr: float | None
    models: tuple[str, ...]
    policy: str | None
    timings: bytes | None
    """Five whole numbers as they are encoded: see `timing_values`."""
    keystore: str
    how_many: int | None
    silent_alarm: bool
    more_scores: tuple[tuple[str, float], ...]


def read_event(data: bytes) -> EventFields:
    """The fields of a valid event in its one encoding. Raises MalformedError for anything else."""
    if type(data) is not bytes:
        raise MalformedError("an event is bytes")
    if len(data) > MAX_EVENT_BYTES:
        raise MalformedError(f"oversized: at most {MAX_EVENT_BYTES} bytes")
    # 1. Every field of its type, in its order, in its shortest form, and nothing behind the last.
    found = _EVENT.fullmatch(data)
    if found is None:
        raise MalformedError(_what_is_wrong(data))
    groups = found.groups()
    (unit, sequence, event_id, time_ms, boot, monotonic_ms, door, kind, reason, attempt, person, *scores,
     models, policy, timings, keystore, count, silent, more) = groups  # fmt: skip
    # 2. As many fields as the map says.
    if data[0] != _ALL_FIELDS - groups.count(None):
        raise MalformedError("an event has another number of fields than it says")
    # 3. What is inside them.
    place, time, start, since = (
        read_uint(sequence),
        read_uint(time_ms),
        read_uint(boot),
        read_uint(monotonic_ms),
    )
    if not 1 <= place <= MAX_SEQUENCE or time > MAX_TIME_MS or start > MAX_SEQUENCE or since > MAX_SEQUENCE:
        raise MalformedError("an event has a number out of range")
    many = None if count is None else read_uint(count)
    if many is not None and many > MAX_SEQUENCE:
        raise MalformedError("an event has a number out of range")
    phrase_llr, speaker_llr, spoof_llr = [None if raw is None else _score(raw) for raw in scores]
    return EventFields(
        read_unit(unit),
        place,
        event_id,
        time,
        start,
        since,
        _door(door),
        _kind(kind),
        _reason(reason),
        attempt,
        person,
        phrase_llr,
        speaker_llr,
        spoof_llr,
        () if models is None else _models(models),
        None if policy is None else _version(policy),
        timings,
        _keystore(keystore),
        many,
        silent is not None,
        () if more is None else _more_scores(more),
    )


def timing_values(encoded: bytes) -> list[int]:
    """The five whole milliseconds of `EventFields.timings`."""
    return [read_uint(part) for part in _PART.findall(encoded)]


def _what_is_wrong(data: bytes) -> str:
    if re.match(rb"[\xa0-\xb7]\x00(?!\x01)[\x00-\x1b]", data):
        return "this event version is unknown here; update the reader"
    return "an event is not in its one form: a field is missing, unknown, mistyped or not in place"


def read_uint(raw: bytes) -> int:
    """What `UINT` has matched."""
    return raw[0] if len(raw) == 1 else int.from_bytes(raw[1:])


def _score(raw: bytes) -> float:
    """A finite number of a sensible size in the shortest of its three forms."""
    first = raw[0]
    value: float
    if first == 0xFB:
        (value,) = _DOUBLE.unpack_from(raw, 1)
        # NaN fails the comparison; infinity is too large.
        short = abs(value) <= MAX_SCORE and _SINGLE.unpack(_SINGLE.pack(value))[0] != value
    elif first == 0xFA:
        (value,) = _SINGLE.unpack_from(raw, 1)
        short = abs(value) <= MAX_SCORE
        if abs(value) <= _LARGEST_HALF:
            short = _HALF.unpack(_HALF.pack(value))[0] != value
    else:
        (value,) = _HALF.unpack_from(raw, 1)
        short = abs(value) <= MAX_SCORE
    if not short:
        raise MalformedError("a score must be a finite float, in its shortest form")
    return value


def _more_scores(encoded: bytes) -> tuple[tuple[str, float], ...]:
    """Names of the vocabulary, each once, in the order of their encodings, with their values."""
    at, found = 1, []
    while (pair := _SCORE.match(encoded, at)) is not None:
        head, name, value = pair.groups()
        if name not in _SCORE_NAMES or head[0] != 0x60 + len(name):
            break
        found.append((len(name), name, _score(value)))
        at = pair.end()
    if at != len(encoded) or encoded[0] != 0xA0 + len(found):
        raise MalformedError("an event's further scores are not in their one form")
    if any(one[:2] >= other[:2] for one, other in itertools.pairwise(found)):
        raise MalformedError("an event's further scores are not in order, each once")
    return tuple(sorted((_SCORE_NAMES[name], value) for _, name, value in found))


_SCORE_NAMES = {name.encode(): name for name in SCORES}


def _text(encoded: bytes, at: int = 0) -> tuple[str, int]:
    """The text that begins at `at`, its length in the shortest form, and where it ends."""
    size, start = encoded[at] - 0x60, at + 1
    if size == 24:
        size, start = encoded[start], start + 1
        if size < 24:
            raise MalformedError("an event has a text that is not in its shortest form")
    end = start + size
    if size > MAX_TEXT or end > len(encoded):
        raise MalformedError("an event has a text of another length than it says")
    return encoded[start:end].decode("ascii"), end


def _whole(encoded: bytes) -> str:
    text, end = _text(encoded)
    if end != len(encoded):
        raise MalformedError("an event has a text of another length than it says")
    return text


def _matching(pattern: re.Pattern[str], name: str) -> Callable[[bytes], str]:
    # A registry sees the same few units, doors and versions over and over.
    @functools.lru_cache(maxsize=4096)
    def read(encoded: bytes) -> str:
        # The value is not repeated in the message: it may be the very thing that must not be logged.
        text = _whole(encoded)
        if pattern.fullmatch(text) is None:
            raise MalformedError(f"{name} is not of the allowed form")
        return text

    return read


def _listed(words: frozenset[str], name: str) -> Callable[[bytes], str]:
    @functools.lru_cache(maxsize=256)
    def read(encoded: bytes) -> str:
        text = _whole(encoded)
        if text not in words:
            raise MalformedError(f"{name} is not in the vocabulary")
        return text

    return read


_door, _version = _matching(DOOR, "door"), _matching(VERSION_NAME, "policy")
_kind, _reason, _keystore = _listed(KINDS, "kind"), _listed(REASONS, "reason"), _listed(KEYSTORES, "keystore")
_unit_text = _matching(UNIT, "unit")


def read_unit(encoded: bytes) -> UnitId:
    """A unit's name from what `TEXT` has matched. Raises MalformedError."""
    return UnitId(_unit_text(encoded))


@functools.lru_cache(maxsize=1024)
def _models(encoded: bytes) -> tuple[str, ...]:
    at, found = 1, []
    while at < len(encoded):
        if not 0x60 <= encoded[at] <= 0x78:
            raise MalformedError("an event has a model version that is no text")
        text, at = _text(encoded, at)
        if VERSION_NAME.fullmatch(text) is None:
            raise MalformedError("a model version is not of the allowed form")
        found.append(text)
    if encoded[0] != 0x80 + len(found):
        raise MalformedError("an event has another number of model versions than it says")
    return tuple(found)
