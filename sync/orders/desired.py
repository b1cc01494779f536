"""The document of how one unit should be: signed, counted, retained by the broker.

What is large (rules, roster, sealed enrolments, the files of a bundle) travels as parts
(`sync/orders/parts.py`); the document names their SHA-256, so that nobody can swap them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields, fields, typed
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId, unit_id
from sync.orders.commands import CLOCK_TOLERANCE_MS

DESIRED_TYPE = "application/ostiary-desired+cbor"
MAX_LIFE_MS = 90 * 24 * 3600 * 1000
MAX_PART_BYTES = 256 << 20
MAX_ROSTER_BYTES = 16 << 20
MAX_CARD_BYTES = 4096
MAX_UID_CHARS = 64
THRESHOLDS = frozenset({"phrase_llr", "voice_llr", "live_llr"})
_KEY_BYTES, _SIGNATURE_BYTES, _HASH_BYTES = 32, 64, 32


@dataclass(frozen=True, slots=True)
class Part:
    """A file larger than a document, named by its hash and size."""

    sha256: bytes
    size: int

    def __post_init__(self) -> None:
        if type(self.sha256) is not bytes or len(self.sha256) != _HASH_BYTES:
            raise MalformedError("a part is named by its SHA-256")
        if type(self.size) is not int or not 0 < self.size <= MAX_PART_BYTES:
            raise MalformedError(f"a part has 1 to {MAX_PART_BYTES} bytes")

    @classmethod
    def of(cls, data: bytes) -> Part:
        return cls(hashlib.sha256(data).digest(), len(data))

    def holds(self, data: bytes) -> bool:
        return len(data) == self.size and hashlib.sha256(data).digest() == self.sha256


@dataclass(frozen=True, slots=True)
class WantedBundle:
    """Models: their manifest, its signature, and the signing key (raw Ed25519)."""

    manifest: Part
    signature: bytes
    key: bytes

    def __post_init__(self) -> None:
        if len(self.signature) != _SIGNATURE_BYTES or len(self.key) != _KEY_BYTES:
            raise MalformedError("a bundle comes with an Ed25519 signature and key")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a unit should have. The unit leaves as it is what is None or empty here."""

    rules: Part | None = None
    people: Part | None = None
    bundle: WantedBundle | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """They replace those of every risk class of the rules."""
    software: str = ""
    """A version that the unit should report; packages bring it, not this document."""

    def __post_init__(self) -> None:
        for name, value in self.thresholds.items():
            if name not in THRESHOLDS or type(value) is not float or not abs(value) <= 12.0:
                raise MalformedError("a threshold is one of the three, from -12 to 12")
        if type(self.software) is not str or len(self.software) > 64:
            raise MalformedError("a version is a short text")

    def digest(self) -> bytes:
        """A hash of the contents alone, without the document's number and times."""
        return hashlib.sha256(dump_fields(*self.to_fields())).digest()

    def to_fields(self) -> tuple[list[object], list[object], list[object], dict[str, float], str]:
        bundle = self.bundle
        packed = [] if bundle is None else [*_packed(bundle.manifest), bundle.signature, bundle.key]
        return _packed(self.rules), _packed(self.people), packed, dict(self.thresholds), self.software


@dataclass(frozen=True, slots=True)
class Desired:
    """The document for one unit. `counter` only rises, so that no older one counts again."""

    unit: UnitId
    counter: int
    issued_ms: int
    expires_ms: int
    contents: Contents

    def __post_init__(self) -> None:
        if type(self.counter) is not int or not 1 <= self.counter <= MAX_SEQUENCE:
            raise MalformedError("a document's counter starts at 1")
        times = (self.issued_ms, self.expires_ms)
        if any(type(t) is not int or not 0 <= t <= MAX_TIME_MS for t in times):
            raise MalformedError("a document has a time out of range")
        if not 0 < self.expires_ms - self.issued_ms <= MAX_LIFE_MS:
            raise MalformedError("a document lives up to 90 days")

    def signed(self, signer: Signer) -> bytes:
        told = (self.counter, self.issued_ms, self.expires_ms, *self.contents.to_fields())
        return cose.sign_fields(signer, DESIRED_TYPE, self.unit, *told)


def open_desired(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId, now_ms: int) -> Desired:
    """A document for `unit` that is signed and in force.

    Raises MalformedError or ProofError. The unit's memory knows whether a later one was applied.
    """
    # 1. By the key that may command, in the one encoding, of the one type, and for this unit.
    counter, issued, expires, rules, people, bundle, thresholds, software = cose.open_fields(
        message, key, DESIRED_TYPE, "iiilllms", unit, "a document"
    )
    wanted = None
    if bundle:
        if not typed(bundle, "bibb"):
            raise MalformedError("a document has a mistyped bundle")
        wanted = WantedBundle(Part(bundle[0], bundle[1]), bundle[2], bundle[3])
    contents = Contents(_part(rules), _part(people), wanted, thresholds, software)
    desired = Desired(unit, counter, issued, expires, contents)
    # 2. In its time, by our clock.
    if now_ms >= desired.expires_ms:
        raise ProofError("a document that has expired")
    if desired.issued_ms > now_ms + CLOCK_TOLERANCE_MS:
        raise ProofError("a document from the future")
    return desired


def _packed(part: Part | None) -> list[object]:
    return [] if part is None else [part.sha256, part.size]


def _part(packed: list[object]) -> Part | None:
    if not packed:
        return None
    if not typed(packed, "bi"):
        raise MalformedError("a document has a mistyped part")
    return Part(*packed)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody who may use this unit's door.

    `envelope` is None for an enrolment of this unit's own, which `version` tells apart; 0 says that it came
    from elsewhere and that the registry lost its envelope.
    """

    uid: str
    number: int
    envelope: Part | None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """An enrolment of this unit's to be sealed to another unit, whose card (PEM) comes with it."""

    uid: str
    number: int
    target: UnitId
    card: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """Somebody who was forgotten, up to this enrolment; the unit owes a receipt."""

    uid: str
    number: int


@dataclass(frozen=True, slots=True)
class Roster:
    """The people part: whom to hold, whom to seal for others, for whom a deletion receipt is owed."""

    hold: tuple[Held, ...] = ()
    share: tuple[Share, ...] = ()
    gone: tuple[Gone, ...] = ()

    def to_bytes(self) -> bytes:
        return dump_fields(
            1,
            [[one.uid, one.number, *(_packed(one.envelope) or [one.version])] for one in self.hold],
            [[one.uid, one.number, one.target, one.card] for one in self.share],
            [[one.uid, one.number] for one in self.gone],
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Roster:
        """Raises MalformedError."""
        version, hold, share, gone = fields(data, "illl", MAX_ROSTER_BYTES)
        if version != 1:
            raise MalformedError("a roster of an unknown form")
        lists = (*hold, *share, *gone)
        if any(type(one) is not list or not typed(one[:2], "si") for one in lists):
            raise MalformedError("a roster has a mistyped line")
        if any(not 0 < len(one[0]) <= MAX_UID_CHARS or not 0 < one[1] <= MAX_SEQUENCE for one in lists):
            raise MalformedError("a roster has a line out of range")
        if any(not typed(one, "sisb") or len(one[3]) > MAX_CARD_BYTES for one in share):
            raise MalformedError("a roster has a mistyped share")
        if any(len(one) != 2 for one in gone):
            raise MalformedError("a roster has a mistyped line")
        uids = [one[0] for one in hold]
        if len(set(uids)) != len(uids) or set(uids) & {one[0] for one in gone}:
            raise MalformedError("a roster names somebody twice")
        return cls(
            tuple(_held(*one) for one in hold),
            tuple(Share(one[0], one[1], unit_id(one[2]), one[3]) for one in share),
            tuple(Gone(*one) for one in gone),
        )


def _held(uid: str, number: int, *rest: object) -> Held:
    if typed([*rest], "i"):
        return Held(uid, number, None, rest[0])  # type: ignore[arg-type]
    return Held(uid, number, _part([*rest] or [0]))


STATEMENT_TYPE = "application/ostiary-statement+cbor"
MAX_STATEMENT_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Somebody was enrolled at this unit. `version` tells this enrolment from the ones before it there."""

    uid: str
    version: int
    model: str
    text_version: str
    purpose: str
    given_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Holding:
    """Somebody whom this unit holds by a number of the fleet, for a registry that has lost its people."""

    uid: str
    number: int
    version: int
    model: str
    text_version: str
    purpose: str
    given_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """An enrolment, for one other unit only."""

    uid: str
    number: int
    target: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """This unit holds nothing of somebody. `proof` is the deletion receipt, empty if it never held any."""

    uid: str
    number: int
    proof: bytes


Item = Enrolled | Holding | Sealed | Receipt
_ITEMS: dict[str, tuple[type[Enrolled] | type[Holding] | type[Sealed] | type[Receipt], str]] = {
    "enrolled": (Enrolled, "sisssii"),
    "holding": (Holding, "siisssii"),
    "sealed": (Sealed, "sisb"),
    "receipt": (Receipt, "sib"),
}
_NAMES = {kind: name for name, (kind, _) in _ITEMS.items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """What a unit tells its registry about people, under one signature of its audit key."""

    unit: UnitId
    time_ms: int
    items: tuple[Item, ...]

    def body(self) -> bytes:
        return dump_fields([_line(item) for item in self.items])

    def signed(self, signer: Signer) -> bytes:
        body = self.body()
        told = (self.time_ms, hashlib.sha256(body).digest())
        return dump_fields(cose.sign_fields(signer, STATEMENT_TYPE, self.unit, *told), body)


def first_that_fit(items: Iterable[Item]) -> tuple[Item, ...]:
    """The first of `items`, as many as one statement has room for."""
    room = MAX_STATEMENT_BYTES - 2 * cose.MAX_SIGN1_BYTES
    found: list[Item] = []
    for item in items:
        room -= len(cbor2.dumps(_line(item)))
        if room < 0:
            break
        found.append(item)
    return tuple(found)


def open_statement(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> Statement:
    """What `unit` signed. Raises MalformedError or ProofError."""
    signed, body = fields(message, "bb", MAX_STATEMENT_BYTES)
    time_ms, digest = cose.open_fields(signed, key, STATEMENT_TYPE, "ib", unit, "a statement")
    if not 0 <= time_ms <= MAX_TIME_MS:
        raise MalformedError("a statement has a time out of range")
    if hashlib.sha256(body).digest() != digest:
        raise ProofError("a statement's body is not what was signed")
    (lines,) = fields(body, "l", MAX_STATEMENT_BYTES)
    return Statement(unit, time_ms, tuple(map(_item, lines)))


def _line(item: Item) -> list[Any]:
    return [_NAMES[type(item)], *(getattr(item, name) for name in item.__slots__)]


def _item(line: object) -> Item:
    if type(line) is not list or not line or type(line[0]) is not str or line[0] not in _ITEMS:
        raise MalformedError("a statement has an unknown line")
    kind, form = _ITEMS[line[0]]
    if not typed(line[1:], form):
        raise MalformedError("a statement has a mistyped line")
    whole = [value for value in line[1:] if type(value) is int]
    if any(not 0 <= value <= MAX_TIME_MS for value in whole) or not 0 < len(line[1]) <= MAX_UID_CHARS:
        raise MalformedError("a statement has a line out of range")
    return kind(*line[1:])
