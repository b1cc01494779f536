"""Audit events: typed, versioned, deterministic CBOR. Every field is an id, a number or a word from a list.

An event has no free text, so no name, transcript or embedding can travel in it. `sync.proofs.chain` links
events, `sync.proofs.heads` signs the links.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync.errors import MalformedError
from sync.event_form import (
    DOOR,
    MAX_EVENT_BYTES,
    MAX_MODELS,
    MAX_SCORE,
    MAX_SEQUENCE,
    MAX_TEXT,
    MAX_TIME_MS,
    MAX_TIMING_MS,
    UNIT,
    VERSION,
    VERSION_NAME,
    UnitId,
    read_event,
    timing_values,
)
from sync.vocabulary import KEYSTORES, KINDS, REASONS, SCORES

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_SEQUENCE",
    "MAX_TIME_MS",
    "AuditEvent",
    "Counter",
    "EventTimings",
    "Record",
    "SequencedEvent",
    "Signer",
    "UnitId",
    "door_name",
    "pseudonym",
    "unit_id",
    "version_text",
]


class Signer(Protocol):
    """Holds a P-256 key that signs audit heads. On a unit it is the TPM's and cannot leave it."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign(self, message: bytes) -> bytes:
        """ES256 over `message`: r || s, 64 bytes."""
        ...


class Counter(Protocol):
    """A counter outside the disk (TPM NV, or a laptop's key file) that only rises."""

    def value(self) -> int: ...

    def advance(self) -> int: ...


def unit_id(text: str) -> UnitId:
    """Check `site/unit`. Raises MalformedError."""
    if type(text) is not str or len(text) > MAX_TEXT or not _matches(UNIT, text):
        raise MalformedError("a unit is named site/unit in lower-case letters, digits and dashes")
    return UnitId(text)


def door_name(text: str) -> str:
    """Check the name of a door as events may hold it. Raises MalformedError."""
    _pattern(text, "a door", DOOR)
    return text


def version_text(text: str) -> str:
    """Check the name of a version: lower case, no blanks, at least one digit. Raises MalformedError."""
    _pattern(text, "a version", VERSION_NAME)
    return text


def pseudonym(key: bytes, uid: str) -> uuid.UUID:
    """A person's id in events (RFC 9562, UUIDv8): always the same under a tenant's `key`.

    `key` is at least 32 random bytes; destroying it unlinks every event from every person.
    """
    if len(key) < 32:
        raise ValueError("a pseudonym key has at least 32 bytes")
    digest = hmac.new(key, b"ostiary pseudonym v1\x00" + uid.encode(), hashlib.sha256).digest()
    raw = bytearray(digest[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return uuid.UUID(bytes=bytes(raw))


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Whole milliseconds of one attempt. `total_ms` runs from the end of speech to the decision."""

    endpoint_ms: int = 0
    words_ms: int = 0
    speaker_ms: int = 0
    spoof_ms: int = 0
    total_ms: int = 0

    def __post_init__(self) -> None:
        for value in self.as_list():
            _integer(value, "a timing", 0, MAX_TIMING_MS)

    def as_list(self) -> list[int]:
        return [self.endpoint_ms, self.words_ms, self.speaker_ms, self.spoof_ms, self.total_ms]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that happened at a door. LLRs are natural-log; None means that the check was not made.

    Raises MalformedError for anything but ids, numbers in range and listed words.
    """

    event_id: uuid.UUID
    time_ms: int
    """UTC, milliseconds since 1970, by the unit's clock."""
    boot: int
    """How many times this unit has started; never goes down."""
    monotonic_ms: int
    """Since that start; shows when somebody moves the clock."""
    door: str
    kind: str
    reason: str = "none"
    attempt: uuid.UUID | None = None
    person: uuid.UUID | None = None
    """From `pseudonym`, never a badge number or a name."""
    phrase_llr: float | None = None
    speaker_llr: float | None = None
    spoof_llr: float | None = None
    models: tuple[str, ...] = ()
    policy: str | None = None
    timings: EventTimings | None = None
    keystore: str = "software"
    count: int | None = None
    """How many, for events that stand for several (overflow, enrolment utterances)."""
    silent_alarm: bool = False
    """The duress word was said, whatever became of the attempt."""
    more_scores: tuple[tuple[str, float], ...] = ()
    """Further findings by their names in `vocabulary.SCORES`, in the order of the names."""

    def __post_init__(self) -> None:
        _identifier(self.event_id, "event_id")
        _integer(self.time_ms, "time_ms", 0, MAX_TIME_MS)
        _integer(self.boot, "boot", 0, MAX_SEQUENCE)
        _integer(self.monotonic_ms, "monotonic_ms", 0, MAX_SEQUENCE)
        _pattern(self.door, "door", DOOR)
        _word(self.kind, "kind", KINDS)
        _word(self.reason, "reason", REASONS)
        _word(self.keystore, "keystore", KEYSTORES)
        if self.attempt is not None:
            _identifier(self.attempt, "attempt")
        if self.person is not None:
            _identifier(self.person, "person")
            if self.person.version != 8:
                raise MalformedError("person must come from pseudonym(); other ids could be linked")
        for llr in (self.phrase_llr, self.speaker_llr, self.spoof_llr):
            if llr is not None:
                _score(llr)
        if type(self.models) is not tuple or len(self.models) > MAX_MODELS:
            raise MalformedError("models must be a tuple of at most 8 versions")
        for version in self.models:
            _pattern(version, "a model version", VERSION_NAME)
        if self.policy is not None:
            _pattern(self.policy, "policy", VERSION_NAME)
        if self.timings is not None and type(self.timings) is not EventTimings:
            raise MalformedError("timings must be EventTimings")
        if self.count is not None:
            _integer(self.count, "count", 0, MAX_SEQUENCE)
        if type(self.silent_alarm) is not bool:
            raise MalformedError("silent_alarm must be true or false")
        if self.more_scores:
            _check_scores(self.more_scores)

    def scores(self) -> dict[str, float | None]:
        return {
            "phrase_llr": self.phrase_llr,
            "speaker_llr": self.speaker_llr,
            "spoof_llr": self.spoof_llr,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """An event in its place in one unit's log. `to_bytes` is hashed, stored, sent and proved."""

    unit: UnitId
    sequence: int
    """1 for the unit's first event, then one more each time."""
    event: AuditEvent

    def to_bytes(self) -> bytes:
        event = self.event
        values = (
            VERSION,
            self.unit,
            self.sequence,
            event.event_id.bytes,
            event.time_ms,
            event.boot,
            event.monotonic_ms,
            event.door,
            event.kind,
            event.reason,
            event.attempt.bytes if event.attempt else None,
            event.person.bytes if event.person else None,
            event.phrase_llr,
            event.speaker_llr,
            event.spoof_llr,
            [*event.models] or None,
            event.policy,
            event.timings.as_list() if event.timings else None,
            event.keystore,
            event.count,
            event.silent_alarm or None,
            dict(event.more_scores) or None,
        )
        return _canonical_map([(key, value) for key, value in enumerate(values) if value is not None])

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Parse and validate. Raises MalformedError for anything but the one encoding `to_bytes` writes."""
        # One event, one encoding: otherwise two byte strings could claim to be the same event.
        fields = read_event(data)
        event = AuditEvent(
            event_id=uuid.UUID(bytes=fields.event_id),
            time_ms=fields.time_ms,
            boot=fields.boot,
            monotonic_ms=fields.monotonic_ms,
            door=fields.door,
            kind=fields.kind,
            reason=fields.reason,
            attempt=uuid.UUID(bytes=fields.attempt) if fields.attempt is not None else None,
            person=uuid.UUID(bytes=fields.person) if fields.person is not None else None,
            phrase_llr=fields.phrase_llr,
            speaker_llr=fields.speaker_llr,
            spoof_llr=fields.spoof_llr,
            models=fields.models,
            policy=fields.policy,
            timings=EventTimings(*timing_values(fields.timings)) if fields.timings is not None else None,
            keystore=fields.keystore,
            count=fields.how_many,
            silent_alarm=fields.silent_alarm,
            more_scores=fields.more_scores,
        )
        return cls(fields.unit, fields.sequence, event)


@dataclass(frozen=True, slots=True)
class SequencedEvent:
    """An event on the disk, its bytes, and the chain hash up to and including it."""

    record: Record
    body: bytes
    chain: bytes

    @property
    def sequence(self) -> int:
        return self.record.sequence


def _canonical_map(pairs: list[tuple[int, Any]]) -> bytes:
    """The map of `pairs` (at most 23, keys rising from 0 to 23) in the encoding of RFC 8949 4.2.1.

    A map is its pairs one after the other behind a byte that counts them, and so is an array of them: the
    library encodes that twice as fast, for it need not sort what is in order.
    """
    array = cbor2.dumps([item for pair in pairs for item in pair], canonical=True)
    return bytes((0xA0 | len(pairs),)) + array[1 if len(pairs) < 12 else 2 :]


def _identifier(value: object, name: str) -> None:
    if type(value) is not uuid.UUID:
        raise MalformedError(f"{name} must be a UUID")


def _integer(value: object, name: str, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise MalformedError(f"{name} must be a whole number from {low} to {high}")


def _pattern(value: object, name: str, pattern: re.Pattern[str]) -> None:
    # The value is not repeated in the message: it may be the very thing that must not be logged.
    if type(value) is not str or len(value) > MAX_TEXT or not _matches(pattern, value):
        raise MalformedError(f"{name} is not of the allowed form")


def _score(value: object) -> None:
    # NaN fails the comparison; infinity is too large.
    if type(value) is not float or not abs(value) <= MAX_SCORE:
        raise MalformedError("a score must be a finite float")


def _check_scores(scores: object) -> None:
    if type(scores) is not tuple or any(type(pair) is not tuple or len(pair) != 2 for pair in scores):
        raise MalformedError("more_scores must be a tuple of names and scores")
    names = [name for name, _ in scores]
    for name, score in scores:
        _word(name, "a score's name", SCORES)
        _score(score)
    if names != sorted(set(names)):
        raise MalformedError("more_scores must be in the order of their names, each once")


@functools.lru_cache(maxsize=4096)
def _matches(pattern: re.Pattern[str], text: str) -> bool:
    # A registry sees the same few doors and versions over and over. Callers keep what is long out.
    return pattern.fullmatch(text) is not None


def _word(value: object, name: str, allowed: frozenset[str]) -> None:
    if type(value) is not str or value not in allowed:
        raise MalformedError(f"{name} is not in the vocabulary")
