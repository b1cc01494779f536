"""A claim: a line of text, also as a QR code, with which one new unit asks for its place once.

It holds one secret. One key derived from it proves the claim to the service, which keeps that key's hash; the
other deciphers the parcel (rules, the tenant's key), which the service cannot read.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import urllib.parse
from dataclasses import dataclass

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sync.cbor import fields
from sync.errors import MalformedError
from sync.events import UnitId, door_name, unit_id

SCHEME = "ostiary-claim"
SECRET_BYTES = 20
PIN_BYTES = 32
MAX_TEXT = 500
MAX_PARCEL_BYTES = 256 * 1024
TENANT_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Claim:
    """`pin` is the SHA-256 of the site's root certificate (DER): a new unit trusts nothing else yet."""

    host: str
    port: int
    unit: UnitId
    door: str
    pin: bytes
    secret: bytes

    @classmethod
    def fresh(cls, host: str, port: int, unit: UnitId, door: str, pin: bytes) -> Claim:
        return cls(host, port, unit, door_name(door), pin, secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Raises MalformedError, which says what to do; it never shows the secret."""
        try:
            if len(text) > MAX_TEXT:
                raise ValueError
            parts = urllib.parse.urlsplit(text.strip())
            pin, secret = (_from_text(part) for part in parts.fragment.split("."))
            if parts.scheme != SCHEME or not parts.hostname or not parts.port or parts.query:
                raise ValueError
            if len(pin) != PIN_BYTES or len(secret) != SECRET_BYTES:
                raise ValueError
            unit, _, door = parts.path.removeprefix("/").rpartition("/")
            return cls(parts.hostname, parts.port, unit_id(unit), door_name(door), pin, secret)
        except (ValueError, MalformedError) as err:
            raise MalformedError(
                "this is not a whole claim; scan the code again, or copy the line from `ostiary fleet claim`"
            ) from err

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}://{host}:{self.port}/{self.unit}/{self.door}#{_to_text(self.pin)}.{_to_text(self.secret)}"

    def __repr__(self) -> str:
        return f"<claim for {self.unit}>"

    def proof(self) -> bytes:
        """What the unit shows the service, 32 bytes."""
        return self._derived(b"redeem")

    def digest(self) -> str:
        """What the service knows the claim by: it cannot make the proof from it."""
        return digest_of(self.proof())

    def seal(self, parcel: Parcel) -> bytes:
        """Encipher `parcel` for the holder of the claim."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._derived(b"parcel")).encrypt(nonce, parcel.to_bytes(), self._bound())

    def open(self, sealed: bytes) -> Parcel:
        """Raises MalformedError for another claim's, or one that was changed."""
        try:
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            plain = AESGCM(self._derived(b"parcel")).decrypt(nonce, rest, self._bound())
        except (InvalidTag, ValueError) as err:
            raise MalformedError(
                "what came with the claim was changed on its way; do not use this claim, and tell the desk"
            ) from err
        return Parcel.from_bytes(plain)

    def _derived(self, purpose: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, None, b"ostiary claim v1 " + purpose).derive(self.secret)

    def _bound(self) -> bytes:
        return b"ostiary parcel v1 " + self.unit.encode()


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the desk gives a unit along, readable by that unit only. Each may be empty."""

    rules: bytes = b""
    """A rules file, as `ostiary policy adopt` takes it."""
    tenant_key: bytes = b""
    policies: tuple[bytes, ...] = ()
    """Approved machine states, as `ostiary store sign-policy` writes them."""

    def __post_init__(self) -> None:
        if self.tenant_key and len(self.tenant_key) != TENANT_KEY_BYTES:
            raise MalformedError(f"a tenant's key has {TENANT_KEY_BYTES} bytes")

    def to_bytes(self) -> bytes:
        data = cbor2.dumps({0: self.rules, 1: self.tenant_key, 2: list(self.policies)}, canonical=True)
        if len(data) > MAX_PARCEL_BYTES:
            raise MalformedError(f"what goes with a claim is at most {MAX_PARCEL_BYTES} bytes")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Parcel:
        rules, tenant_key, policies = fields(data, "bbl", MAX_PARCEL_BYTES)
        if any(type(policy) is not bytes for policy in policies):
            raise MalformedError("a signed policy is bytes")
        return cls(rules, tenant_key, tuple(policies))


def digest_of(proof: bytes) -> str:
    return hashlib.sha256(b"ostiary claim proof " + proof).hexdigest()


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_text(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _to_text(data) != text:
        raise ValueError("not in the one encoding")
    return data
