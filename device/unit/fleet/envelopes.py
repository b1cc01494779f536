"""One person's enrolment on its way between units: sealed to one exchange key, readable nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import cbor2
import numpy as np
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device.secure_store import Consent, StoreError, Template
from device.secure_store.exchange import Exchange, open_with, seal_to
from sync.events import UnitId
from sync.orders.desired import Share
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

_LINE = (str, int, str, bytes, int, str, float, str, float, str)


def seal(share: Share, key: ec.EllipticCurvePublicKey, template: Template, consent: Consent) -> bytes:
    """The enrolment for `share.target` alone. The template is not wiped."""
    line = [
        share.uid,
        share.number,
        template.model,
        template.vector.astype("<f4").tobytes(),
        template.utterances,
        consent.taken_by,
        consent.given_at.timestamp(),
        consent.text_version,
        consent.retain_until.timestamp(),
        consent.purpose,
    ]
    return seal_to(key, cbor2.dumps(line), _info(share.target, share.uid, share.number))


def unseal(
    exchange: Exchange, envelope: bytes, unit: UnitId, uid: str, number: int
) -> tuple[Template, Consent]:
    """Raises StoreError unless the envelope is for this unit, this person and this enrolment."""
    plain = open_with(exchange, envelope, _info(unit, uid, number))
    try:
        line = cbor2.loads(plain)
        if type(line) is not list or tuple(type(value) for value in line) != _LINE:
            raise ValueError("another form")
        name, counted, model, vector, utterances, taken_by, given, text, until, purpose = line
        if (name, counted) != (uid, number):
            raise ValueError("another enrolment")
        template = Template(model, np.frombuffer(vector, dtype="<f4").copy(), utterances)
        given_at, retain_until = datetime.fromtimestamp(given, UTC), datetime.fromtimestamp(until, UTC)
        return template, Consent(taken_by, given_at, text, retain_until, purpose)
    except (ValueError, TypeError, OverflowError, OSError) as err:
        raise StoreError(
            f"an enrolment that was sealed for this unit is damaged ({what_and_why(err)})"
        ) from err


def checked_card(share: Share, authority: Path, now: datetime) -> ec.EllipticCurvePublicKey:
    """The exchange key of `share.target`, by its authority's word. Raises StoreError.

    1. Signed by one of the certificates in `authority`, which are this unit's own settings, or by
    an issuing one that they signed. 2. In its time.
    3. For that unit. 4. For agreeing on secrets and nothing else, so that no TLS certificate passes.
    """
    try:
        card, *between = x509.load_pem_x509_certificates(share.card)
        trusted = x509.load_pem_x509_certificates(plain_bytes(authority))
        usage = card.extensions.get_extension_for_class(x509.KeyUsage).value
        names = card.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (OSError, ValueError, x509.ExtensionNotFound) as err:
        raise StoreError(
            f"the exchange certificate of {share.target} cannot be read ({what_and_why(err)})"
        ) from err
    trusted += [one for one in between if _authorised(one, now) and any(_issued(one, t) for t in trusted)]
    if not any(_issued(card, by) for by in trusted):  # 1
        raise StoreError(f"the exchange certificate of {share.target} is not by this unit's authority")
    if not card.not_valid_before_utc <= now < card.not_valid_after_utc:  # 2
        raise StoreError(f"the exchange certificate of {share.target} is outside its time; issue a new one")
    if [name.value for name in names] != [share.target]:  # 3
        raise StoreError(f"the exchange certificate of {share.target} is another unit's")
    if not usage.key_agreement or usage.digital_signature:  # 4
        raise StoreError(f"the certificate of {share.target} is not one for exchange")
    key = card.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise StoreError(f"the exchange key of {share.target} is not on P-256")
    return key


def _authorised(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it may issue, and does so in its time."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return constraints.ca and in_time


def _issued(card: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        card.verify_directly_issued_by(by)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _info(unit: UnitId, uid: str, number: int) -> bytes:
    return b"ostiary enrolment v1\0" + cbor2.dumps([unit, uid, number])
