"""Seals one person's enrolment to another unit's exchange key, and opens it there."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import numpy as np
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device.secure_store import Consent, DoorVector, StoreError, Template
from device.secure_store.exchange import Exchange, open_with, seal_to
from sync.events import UnitId
from sync.orders.desired import Share
from sync.plain_file import plain_bytes
from sync.plain_words import malformed, what_and_why

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
    door = template.door
    # Behind it, as an item of its own: software of 0.1.0 reads the first alone, and enrols without.
    more = b"" if door is None else cbor2.dumps([door.made, door.vector.astype("<f4").tobytes()])
    return seal_to(key, cbor2.dumps(line) + more, _info(share.target, share.uid, share.number))


def unseal(
    exchange: Exchange, envelope: bytes, unit: UnitId, uid: str, number: int
) -> tuple[Template, Consent]:
    """Raises StoreError unless the envelope is for this unit, this person and this enrolment."""
    plain = open_with(exchange, envelope, _info(unit, uid, number))
    try:
        items = io.BytesIO(plain)
        line = cbor2.load(items)
        if type(line) is not list or tuple(type(value) for value in line) != _LINE:
            raise ValueError("another form")
        name, counted, model, vector, utterances, taken_by, given, text, until, purpose = line
        if (name, counted) != (uid, number):
            raise ValueError("another enrolment")
        door = _door(items)
        template = Template(model, np.frombuffer(vector, dtype="<f4").copy(), utterances, door)
        given_at, retain_until = datetime.fromtimestamp(given, UTC), datetime.fromtimestamp(until, UTC)
        return template, Consent(taken_by, given_at, text, retain_until, purpose)
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, OSError) as err:
        raise StoreError(f"an enrolment that was sealed for this unit is damaged ({malformed(err)})") from err


def _door(items: io.BytesIO) -> DoorVector | None:
    """What follows the enrolment; None where nothing does. Raises ValueError for anything else."""
    if items.tell() == len(items.getbuffer()):
        return None
    more = cbor2.load(items)
    if type(more) is not list or [type(value) for value in more] != [str, bytes]:
        raise ValueError("another form")
    if items.tell() != len(items.getbuffer()):
        raise ValueError("something follows")
    return DoorVector(more[0], np.frombuffer(more[1], dtype="<f4").copy())


def checked_card(share: Share, authority: Path, now: datetime) -> ec.EllipticCurvePublicKey:
    """The exchange key of `share.target`, as its card says. Raises StoreError unless the card is

    1. signed by a certificate in `authority`, of this unit's own settings, or by an issuing one that they
    signed; 2. in its time; 3. that unit's; 4. for agreeing on secrets only, so that no TLS certificate
    passes.
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
    """Whether it is an issuing certificate in its time."""
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
