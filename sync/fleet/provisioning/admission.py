"""Admits a unit: its claim, the proofs of its TPM, and what the registry keeps of them.

A unit is the TPM it was admitted with: the SHA-256 of its endorsement key's public area. Another TPM under a
known name is refused and raises an alarm; two people replace a broken unit (`ostiary fleet replace`).
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from sync.errors import ProofError
from sync.events import UnitId, unit_id
from sync.fleet.certificates import Authority
from sync.fleet.exchange import card
from sync.fleet.provisioning.claim import digest_of
from sync.fleet.provisioning.claims import identity_of, milliseconds
from sync.fleet.provisioning.messages import CERTIFIED, Begin, Challenge, Finish, Place, Renew
from sync.fleet.provisioning.places import (
    Session,
    Shown,
    check_places,
    check_return,
    claim_of,
    proved_again,
    take,
)
from sync.fleet.provisioning.recovery import recovering
from sync.fleet.provisioning.refusals import Refusals, RefusedError, not_proved, used
from sync.fleet.provisioning.tpm.ek_certificates import grade
from sync.fleet.provisioning.tpm.proof import (
    NONCE_BYTES,
    SECRET_BYTES,
    credential,
    read_key,
    verify_certified,
    verify_quote,
)
from sync.keys import FileSigner
from sync.registry.database.schema import certificates, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.fleet.wanted import keep_card

SESSION_S = 180
MAX_SESSIONS = 256
PROOF_BYTES = 32
"""The length of a claim's proof; a longer one is a certificate from an earlier admission."""
_PURPOSES = dict(zip(CERTIFIED, ("signing", "signing", "exchange"), strict=True))


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What every unit of the site is told, and the makers whose TPMs are trusted. Keys are PEM."""

    broker: str
    receipts_key: bytes
    command_key: bytes
    roots: tuple[x509.Certificate, ...] = ()


@dataclass(slots=True)
class Admission:
    """Safe for threads. Sessions are in memory: after a restart a unit begins again."""

    store: Store
    authority: Authority
    site: SiteFacts
    now: Callable[[], dt.datetime]
    _sessions: dict[bytes, Session] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _refusals: Refusals = field(init=False)

    def __post_init__(self) -> None:
        self._refusals = Refusals(self.store, lambda: milliseconds(self.now()))

    def begin(self, request: Begin) -> Challenge:
        """The challenge for a unit with a claim; only its own TPM opens it. Raises RefusedError."""
        return self._refusals.on_record(lambda: self._begin(request))

    def renew(self, request: Renew) -> Challenge:
        """The challenge for a unit that asks for its next certificate. Raises RefusedError."""
        return self._refusals.on_record(lambda: self._renew(request))

    def finish(self, request: Finish) -> Place:
        """The place of a unit whose TPM opened the challenge and certified its keys. Raises RefusedError."""
        return self._refusals.on_record(lambda: self._finish(request))

    # Inside

    def _begin(self, request: Begin) -> Challenge:
        # 1. the claim; 2. the keys are a TPM's own; 3. whose TPM it is; 4. nobody else has name or TPM;
        # 5. the claim was not used by another TPM
        now = self.now()
        if len(request.proof) > PROOF_BYTES:
            return self._return(request)
        digest = digest_of(request.proof)
        with self.store.reading() as db:
            claim = claim_of(db, digest, now)  # 1
            unit = UnitId(claim.unit)
            try:
                shown = self._shown(request, claim.expected)  # 2, 3
            except ProofError as err:
                raise not_proved(unit, str(err)) from err
            tpm = shown.endorsement.digest()
            check_places(db, unit, tpm)  # 4
            if claim.used_by not in (None, tpm):  # 5
                raise used(unit, tpm)
        return self._challenge(unit, shown, digest)

    def _shown(self, request: Begin, expected: str | None) -> Shown:
        """The keys of a request, each a TPM's own, and the grade of the first. Raises ProofError."""
        endorsement = read_key(request.endorsement, "endorsement")
        attestation = read_key(request.attestation, "attestation")
        keys = tuple(
            read_key(raw, _PURPOSES[name]) for name, raw in zip(CERTIFIED, request.keys, strict=False)
        )
        graded = grade(
            endorsement,
            request.certificate or None,
            request.chain,
            expected=expected,
            roots=self.site.roots,
            now=self.now(),
        )
        return Shown(endorsement, attestation, keys, graded)

    def _return(self, request: Begin) -> Challenge:
        """A unit that this site admitted before its registry was lost shows the certificate of that time.

        1. Somebody has begun a recovery. 2. The certificate is by this site's issuing key,
        not revoked, for the very TLS key that the TPM certifies. 3. Neither unit nor TPM has a place here.
        4. It has not run out: the list names none that has, so nobody could tell one that was revoked.
        """
        with self.store.reading() as db:
            if not recovering(db):  # 1, before a stranger's proofs cost anything
                raise RefusedError(
                    "unknown", "this site does not know the unit; the desk makes a claim for it"
                )
        try:  # 2
            leaf = x509.load_der_x509_certificate(request.proof)
            leaf.verify_directly_issued_by(self.authority.certificate)
            unit = unit_id(str(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value))
            shown = self._shown(request, None)
            if leaf.public_key() != shown.keys[0].p256():
                raise ProofError("the certificate is for another key than the TPM's")
        except (ProofError, ValueError, TypeError, IndexError, InvalidSignature) as err:
            unknown = UnitId("unknown/unit")
            raise not_proved(unknown, f"no unit of this site before ({type(err).__name__}: {err})") from err
        if leaf.not_valid_after_utc <= self.now():  # 4
            raise RefusedError(
                "expired",
                f"the certificate of {unit} has run out, and this registry is new; make a claim for it",
            )
        serial = f"{leaf.serial_number:x}"
        with self.store.reading() as db:
            check_return(db, unit, serial)  # 1, 2
            check_places(db, unit, shown.endorsement.digest())  # 3
        return self._challenge(unit, shown, returns=serial)

    def _renew(self, request: Renew) -> Challenge:
        unit = unit_id(request.unit)
        with self.store.reading() as db:
            known = identity_of(db, unit)
            revoked = db.execute(sa.select(units.c.revoked_ms).where(units.c.unit == unit)).scalar()
        if known is None or not hmac.compare_digest(known.tpm.encode(), request.identity.encode()):
            raise RefusedError(
                "unknown", f"this TPM is not {unit} here; the desk makes a claim for a new unit"
            )
        if revoked is not None:
            raise RefusedError("revoked", f"{unit} was revoked; the desk lets it in again, or replaces it")
        endorsement = read_key(bytes(known.endorsement), "endorsement")
        attestation = read_key(bytes(known.attestation), "attestation")
        return self._challenge(
            unit, Shown(endorsement, attestation, (read_key(bytes(known.tls), "signing"),))
        )

    def _challenge(self, unit: UnitId, shown: Shown, claim: str = "", returns: str = "") -> Challenge:
        secret, nonce = secrets.token_bytes(SECRET_BYTES), secrets.token_bytes(NONCE_BYTES)
        number = secrets.token_bytes(16)
        try:
            blob, seed = credential(shown.endorsement, shown.attestation, secret)
        except ProofError as err:
            raise not_proved(unit, str(err)) from err
        now = self.now()
        until = now + dt.timedelta(seconds=SESSION_S)
        session = Session(unit, shown, secret, nonce, until, claim, returns)
        with self._lock:
            for old in [key for key, held in self._sessions.items() if held.until < now]:
                del self._sessions[old]
            while len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[number] = session
        return Challenge(number, blob, seed, nonce)

    def _finish(self, request: Finish) -> Place:
        # 1. one try for a challenge; 2. endorsement and attestation key are in one TPM; 3. and so is each of
        # the others; 4. how the machine started; 5. in one commit: the claim is used, the TPM is the unit
        with self._lock:
            held = self._sessions.pop(request.session, None)
        if held is None or held.until < self.now():
            raise RefusedError("late", "this took too long; run the same command again")
        unit, shown = held.unit, held.shown
        try:
            if not hmac.compare_digest(request.opened, held.secret):  # 2
                raise ProofError("the keys are not in the TPM of that endorsement key")
            if len(request.statements) != len(shown.keys):
                raise ProofError("the TPM has to vouch for each key")
            attestation = shown.attestation.p256()
            for statement, key in zip(request.statements, shown.keys, strict=True):  # 3
                key.p256()
                verify_certified(statement, key, attestation, held.nonce)
            verify_quote(request.quote, request.values, attestation, held.nonce)  # 4
        except ProofError as err:
            raise not_proved(unit, str(err)) from err
        measured = json.dumps({str(pcr): value.hex() for pcr, value in sorted(request.values.items())})
        return self._admit(held, measured)

    def _admit(self, held: Session, measured: str) -> Place:
        now, unit, keys = self.now(), held.unit, held.shown.keys
        now_ms = milliseconds(now)
        signed = self.authority.sign(keys[0].p256(), unit, now)
        door, parcel = "", b""
        with self.store.transaction() as db:
            if held.shown.graded is None:
                proved_again(db, held, measured, now_ms)
            else:
                if held.returns:  # as it is now: minutes have passed
                    take_turn(db, Turn.RECOVERY)
                    check_return(db, unit, held.returns)
                if held.claim:
                    claim = claim_of(db, held.claim, now, keep=True)
                    door, parcel = claim.door, bytes(claim.parcel)
                take(self.store, db, held, held.shown.graded, measured, now_ms)
                if len(keys) > 2:
                    keep_card(db, unit, card(self.authority, unit, keys[2].p256(), now))
            row = {
                "serial": f"{signed.serial_number:x}",
                "unit": unit,
                "tpm": held.tpm,
                "issued_ms": now_ms,
                "expires_ms": milliseconds(signed.not_valid_after_utc),
            }
            db.execute(sa.insert(certificates).values(row))
        return Place(
            unit,
            door,
            self.site.broker,
            self.authority.chained(signed),
            self.site.receipts_key,
            self.site.command_key,
            parcel,
        ).signed(FileSigner(self.authority.key), held.nonce)
