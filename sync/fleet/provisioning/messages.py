"""The messages between a unit and the claim service: CBOR over HTTPS, sizes and types checked first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import Signer
from sync.fleet.provisioning.claim import MAX_PARCEL_BYTES
from sync.fleet.provisioning.tpm.ek_certificates import MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES
from sync.fleet.provisioning.tpm.proof import Statement

SITE_PATH, BEGIN_PATH, RENEW_PATH, FINISH_PATH = "/v1/site", "/v1/begin", "/v1/renew", "/v1/finish"
MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = MAX_PARCEL_BYTES + 64 * 1024
CERTIFIED = ("tls", "audit", "exchange")
"""The keys that the attestation key certifies, in this order; the last may be missing."""
PLACE_TYPE = "application/ostiary-place+cbor"


@dataclass(frozen=True, slots=True)
class Site:
    """What is no secret: the root (PEM), and who approves machine states (PEM, may be empty)."""

    root: bytes
    policy_authority: bytes

    def to_bytes(self) -> bytes:
        return dump_fields(self.root, self.policy_authority)

    @classmethod
    def from_bytes(cls, data: bytes) -> Site:
        return cls(*fields(data, "bb", MAX_ANSWER_BYTES))


@dataclass(frozen=True, slots=True)
class Begin:
    """`proof` of the claim; then TPM2B_PUBLIC of every key; `keys` are those of `CERTIFIED`."""

    proof: bytes
    endorsement: bytes
    certificate: bytes
    chain: tuple[bytes, ...]
    attestation: bytes
    keys: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        return dump_fields(
            self.proof,
            self.endorsement,
            self.certificate,
            list(self.chain),
            self.attestation,
            list(self.keys),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Begin:
        proof, endorsement, certificate, chain, attestation, keys = fields(data, "bbblbl", MAX_REQUEST_BYTES)
        if len(chain) > MAX_CERTIFICATES or not 2 <= len(keys) <= len(CERTIFIED):
            raise MalformedError("a request has other keys or certificates than it should")
        if any(type(item) is not bytes for item in (*chain, *keys)):
            raise MalformedError("keys and certificates are bytes")
        if any(len(item) > MAX_CERTIFICATE_BYTES for item in (certificate, *chain)):
            raise MalformedError("a certificate is shorter than this")
        return cls(proof, endorsement, certificate, tuple(chain), attestation, tuple(keys))


@dataclass(frozen=True, slots=True)
class Renew:
    """A unit that the site knows asks for its next certificate; `identity` is its EK's digest."""

    unit: str
    identity: str

    def to_bytes(self) -> bytes:
        return dump_fields(self.unit, self.identity)

    @classmethod
    def from_bytes(cls, data: bytes) -> Renew:
        return cls(*fields(data, "ss", MAX_REQUEST_BYTES))


@dataclass(frozen=True, slots=True)
class Challenge:
    """TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET to open, and the nonce that statements answer."""

    session: bytes
    credential: bytes
    secret: bytes
    nonce: bytes

    def to_bytes(self) -> bytes:
        return dump_fields(self.session, self.credential, self.secret, self.nonce)

    @classmethod
    def from_bytes(cls, data: bytes) -> Challenge:
        return cls(*fields(data, "bbbb", MAX_ANSWER_BYTES))


@dataclass(frozen=True, slots=True)
class Finish:
    """What was opened, a statement for each key in order, and a quote with its PCR values."""

    session: bytes
    opened: bytes
    statements: tuple[Statement, ...]
    quote: Statement
    values: dict[int, bytes]

    def to_bytes(self) -> bytes:
        pairs = [item for one in (*self.statements, self.quote) for item in (one.attest, one.signature)]
        values = [item for pcr, value in sorted(self.values.items()) for item in (pcr, value)]
        return dump_fields(self.session, self.opened, pairs, values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Finish:
        session, opened, pairs, values = fields(data, "bbll", MAX_REQUEST_BYTES)
        if len(pairs) % 2 or not 4 <= len(pairs) <= 2 * (len(CERTIFIED) + 1) or len(values) % 2:
            raise MalformedError("an answer has other statements than it should")
        if any(type(item) is not bytes for item in pairs) or len(values) > 48:
            raise MalformedError("statements are bytes")
        banks = list(zip(values[::2], values[1::2], strict=True))
        # Types first: what is no number may be nothing that a map can have as its key.
        if any(type(pcr) is not int or type(value) is not bytes for pcr, value in banks):
            raise MalformedError("PCR values are bytes by number")
        pcrs = dict(banks)
        stated = [Statement(a, s) for a, s in zip(pairs[::2], pairs[1::2], strict=True)]
        return cls(session, opened, tuple(stated[:-1]), stated[-1], pcrs)


@dataclass(frozen=True, slots=True)
class Place:
    """What a unit is given: its certificate and the issuer's (PEM), the parcel as the desk sealed it.

    `signature` is the issuing key's: the holder of the service's TLS key cannot say whom a unit obeys.
    """

    unit: str
    door: str
    broker: str
    certificates: bytes
    receipts_key: bytes
    command_key: bytes
    parcel: bytes
    signature: bytes = b""
    """A COSE_Sign1 over everything else and the nonce of the challenge."""

    def signed(self, signer: Signer, nonce: bytes) -> Place:
        return replace(self, signature=cose.sign1(self._said(nonce), signer, PLACE_TYPE))

    def check(self, root: bytes, key: ec.EllipticCurvePublicKey, nonce: bytes) -> None:
        """Check that the site said all of this, to this challenge, about `key`.

        Raises MalformedError, ProofError.

        1. The issuing certificate is by `root` (PEM) and may issue. 2. The unit's certificate is by that
        one, for this key. 3. The issuing key signed the rest.
        """
        try:
            trusted = x509.load_pem_x509_certificate(root)
            leaf, issuing = x509.load_pem_x509_certificates(self.certificates)
            issuing.verify_directly_issued_by(trusted)  # 1
            constraints = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
            leaf.verify_directly_issued_by(issuing)  # 2
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as err:
            raise ProofError("the place is not certified by the site's root") from err
        issuer = issuing.public_key()
        if (
            not constraints.ca
            or leaf.public_key() != key
            or not isinstance(issuer, ec.EllipticCurvePublicKey)
        ):
            raise ProofError("the place is certified for another key")
        if cose.open1(self.signature, issuer, PLACE_TYPE) != self._said(nonce):  # 3
            raise ProofError("the place is not what the site signed")

    def _said(self, nonce: bytes) -> bytes:
        return hashlib.sha256(dump_fields(nonce, *self._values())).digest()

    def _values(self) -> tuple[str | bytes, ...]:
        named = (self.unit, self.door, self.broker)
        return (*named, self.certificates, self.receipts_key, self.command_key, self.parcel)

    def to_bytes(self) -> bytes:
        return dump_fields(*self._values(), self.signature)

    @classmethod
    def from_bytes(cls, data: bytes) -> Place:
        return cls(*fields(data, "sssbbbbb", MAX_ANSWER_BYTES))


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` for programs, `why` in one line for a person."""

    code: str
    why: str

    def to_bytes(self) -> bytes:
        return dump_fields(self.code, self.why)

    @classmethod
    def from_bytes(cls, data: bytes) -> Refusal:
        return cls(*fields(data, "ss", MAX_ANSWER_BYTES))
