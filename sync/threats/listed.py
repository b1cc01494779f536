"""The threat list, by which the registry warns units of attackers' tools. It names no person.

It travels as the argument of a signed, counted command. It can only make a unit stricter, and only as far as
the unit itself allows (`device/liveness/threats/known.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sync.cbor import dump_fields, fields, typed
from sync.errors import MalformedError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, version_text
from sync.threats.prints import VALUES

MOST = 40
"""Threats on one list, which has to fit a command."""
MAX_LIST_BYTES = 1_900
MAX_LIFE_MS = 30 * 24 * 3600 * 1000
LEAST_LIKENESS, MOST_LIKENESS = 500, 999
_POINT_BYTES = 65


@dataclass(frozen=True, slots=True)
class Threat:
    """One campaign: the mean of its prints, and how alike an attempt must be, in thousandths."""

    number: int
    """The registry's number of the campaign, which the event of a match names."""
    values: bytes
    likeness: int

    def __post_init__(self) -> None:
        if type(self.number) is not int or not 1 <= self.number <= MAX_SEQUENCE:
            raise MalformedError("a threat's number starts at 1")
        if type(self.values) is not bytes or len(self.values) != VALUES or not any(self.values):
            raise MalformedError(f"a threat has {VALUES} values that are not all zero")
        if type(self.likeness) is not int or not LEAST_LIKENESS <= self.likeness <= MOST_LIKENESS:
            raise MalformedError("a threat that nearly everybody would match")


@dataclass(frozen=True, slots=True)
class ThreatList:
    """The threats that a unit is warned of, and the key to which it enciphers its own prints."""

    version: int
    """Only rises: an earlier list is not taken again."""
    expires_ms: int
    model: str
    """Whose prints these are; another model's are compared with none of them."""
    tenant_key: bytes
    """An uncompressed point on P-256."""
    threats: tuple[Threat, ...] = ()

    def __post_init__(self) -> None:
        if type(self.version) is not int or not 1 <= self.version <= MAX_SEQUENCE:
            raise MalformedError("a threat list's version starts at 1")
        if type(self.expires_ms) is not int or not 0 < self.expires_ms <= MAX_TIME_MS:
            raise MalformedError("a threat list expires at a time out of range")
        version_text(self.model)
        if len(self.threats) > MOST or len({threat.number for threat in self.threats}) < len(self.threats):
            raise MalformedError(f"a threat list has at most {MOST} threats, each once")
        self.key()

    def key(self) -> ec.EllipticCurvePublicKey:
        """The tenant's key. Raises MalformedError."""
        if type(self.tenant_key) is not bytes or len(self.tenant_key) != _POINT_BYTES:
            raise MalformedError("a threat list has no point on P-256 as its key")
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.tenant_key)
        except ValueError as err:
            raise MalformedError("a threat list has no point on P-256 as its key") from err

    def to_bytes(self) -> bytes:
        """Packed, so that forty threats fit a command."""
        numbers = [threat.number for threat in self.threats]
        likenesses = [threat.likeness for threat in self.threats]
        values = b"".join(threat.values for threat in self.threats)
        head = (1, self.version, self.expires_ms, self.model, self.tenant_key)
        return dump_fields(*head, numbers, likenesses, values)

    @classmethod
    def from_bytes(cls, data: bytes) -> ThreatList:
        """Raises MalformedError for anything else."""
        found = fields(data, "iiisbllb", MAX_LIST_BYTES)
        form, version, expires_ms, model, key, numbers, likenesses, values = found
        count = len(numbers)
        if form != 1 or count > MOST or len(values) != count * VALUES:
            raise MalformedError("a threat list of an unknown form")
        if not typed(numbers, "i" * count) or not typed(likenesses, "i" * count):
            raise MalformedError("a threat list has a mistyped number")
        each = [values[at : at + VALUES] for at in range(0, len(values), VALUES)]
        threats = tuple(map(Threat, numbers, each, likenesses))
        return cls(version, expires_ms, model, key, threats)
