"""Bundles for an auditor: a log, one event with its proof, or two heads and the proof between them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from sync.cbor import fields, typed
from sync.cose import peek1
from sync.errors import MalformedError, ProofError
from sync.events import UnitId, unit_id
from sync.proofs import chain
from sync.proofs.heads import Head
from sync.proofs.merkle import Frontier, consistency_proof, inclusion_proof

FORMAT = "ostiary-bundle-1"
MAX_BUNDLE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Gap:
    """Events `missing_from` to `first` - 1 are missing.

    `chain` is the chain hash before `first` by the unit's word, or empty; the next head vouches for it.
    """

    missing_from: int
    first: int
    chain: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.missing_from < self.first or len(self.chain) not in (0, 32):
            raise MalformedError("a gap is between two events, and a chain hash has 32 bytes")


@dataclass(frozen=True, slots=True)
class LogBundle:
    """Events `first` to the last head, every signed head among them, and the state just before `first`.

    When `first` is not 1 (older events have passed their retention), the first head covers the event before
    it, and `records`, signed by the registry, say who deleted what came before. `frontier` is empty when
    events are missing there: the tree cannot be continued then.
    """

    unit: UnitId
    key: bytes
    """The unit's key as claimed (SubjectPublicKeyInfo, DER); a verifier brings its own copy."""
    first: int
    chain: bytes
    frontier: bytes
    events: tuple[bytes, ...]
    heads: tuple[bytes, ...]
    gaps: tuple[Gap, ...] = ()
    records: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        gaps = [[gap.missing_from, gap.first, gap.chain] for gap in self.gaps]
        start = [self.unit, self.key, self.first, self.chain, self.frontier]
        return _dump("log", [*start, [*self.events], [*self.heads], gaps, [*self.records]])


@dataclass(frozen=True, slots=True)
class EventProof:
    """One event, and why it is in the log that `head` signs."""

    unit: UnitId
    key: bytes
    event: bytes
    sequence: int
    path: tuple[bytes, ...]
    head: bytes

    def to_bytes(self) -> bytes:
        return _dump("event", [self.unit, self.key, self.event, self.sequence, [*self.path], self.head])


@dataclass(frozen=True, slots=True)
class GrowthProof:
    """Two heads, and why the log of the newer begins with the whole log of the older."""

    unit: UnitId
    key: bytes
    old_head: bytes
    new_head: bytes
    path: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        return _dump("growth", [self.unit, self.key, self.old_head, self.new_head, [*self.path]])


Bundle = LogBundle | EventProof | GrowthProof


def parse(data: bytes) -> Bundle:
    """The bundle in `data`, with only its types checked. Raises MalformedError."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise MalformedError("a bundle has at most 1 GiB; export fewer months")
    try:
        name, kind, values = fields(data, "ssl", MAX_BUNDLE_BYTES)
    except MalformedError as err:
        raise MalformedError("this is not an ostiary bundle, or it was cut off") from err
    if name != FORMAT:
        raise MalformedError("this is not an ostiary bundle, or one of another version")
    forms: dict[str, tuple[Callable[..., Bundle], str]] = {
        "log": (LogBundle, "sbibbllgl"),
        "event": (EventProof, "sbbilb"),
        "growth": (GrowthProof, "sbbbl"),
    }
    if kind not in forms:
        raise MalformedError("this kind of bundle is unknown here")
    maker, form = forms[kind]
    if len(values) != len(form) or not all(map(_is, values, form)):
        raise MalformedError("a bundle has a missing or mistyped field")
    unit_id(values[0])
    bundle = maker(*map(_frozen, values, form))
    if bundle.to_bytes() != data:
        raise MalformedError("a bundle is not in the deterministic encoding, or has bytes after its end")
    return bundle


def prove_event(log: LogBundle, sequence: int) -> EventProof:
    """The proof for one event of a log. Raises ProofError."""
    leaves, before, head = _provable(log)
    path = inclusion_proof(leaves, sequence - 1, before)
    event = log.events[sequence - log.first]
    return EventProof(log.unit, log.key, event, sequence, tuple(path), head)


def prove_growth(log: LogBundle, old_head: bytes) -> GrowthProof:
    """The proof that a log still begins as it was when `old_head` was signed. Raises ProofError."""
    leaves, before, head = _provable(log)
    path = consistency_proof(leaves, Head.from_bytes(peek1(old_head)).size, before)
    return GrowthProof(log.unit, log.key, old_head, head, tuple(path))


def key_to_der(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@functools.lru_cache(maxsize=1_024)
def key_from_bytes(data: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from DER or PEM, the same object for the same bytes: what is signed is looked up by
    its key (`cose.key_id`), and keys are kept there. Raises MalformedError."""
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        key = load_pem_public_key(data) if pem else load_der_public_key(data)
    except Exception as err:
        raise MalformedError("that is no public key in PEM or DER form") from err
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError("a unit's audit key is on the curve P-256")
    return key


def _provable(log: LogBundle) -> tuple[list[bytes], Frontier, bytes]:
    """The leaves up to the last head before any gap, the sum of those before the log, and that head."""
    if not log.heads:
        raise MalformedError("proofs need a log that has a head")
    if not log.frontier:
        raise ProofError("proofs would need events that are missing")
    before = Frontier.from_bytes(log.frontier)
    if before.size != log.first - 1:
        raise MalformedError("this log does not start where it says; verify it")
    end = log.gaps[0].missing_from - 1 if log.gaps else log.first + len(log.events) - 1
    sizes = {Head.from_bytes(peek1(head)).size: head for head in log.heads}
    covered = max((size for size in sizes if size <= end), default=0)
    if covered < before.size or not covered:
        raise ProofError("no signed head covers an event before the first gap")
    return [chain.leaf_hash(body) for body in log.events[: covered - before.size]], before, sizes[covered]


def _dump(kind: str, values: list[Any]) -> bytes:
    return cbor2.dumps({0: FORMAT, 1: kind, 2: values}, canonical=True)


def _is(value: object, form: str) -> bool:
    if form == "l":
        return type(value) is list and all(type(item) is bytes for item in value)
    if form == "g":
        return type(value) is list and all(type(item) is list and typed(item, "iib") for item in value)
    return type(value) is {"s": str, "b": bytes, "i": int}[form]


def _frozen(value: Any, form: str) -> Any:
    if form == "g":
        return tuple(Gap(*item) for item in value)
    return tuple(value) if form == "l" else value
