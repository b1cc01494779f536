"""Cards: certificates of units' exchange keys. A unit shares an enrolment only with the holder of one."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sync.errors import SyncError
from sync.events import UnitId
from sync.fleet.certificates import Authority, key_usage

CARD_DAYS = 1825


def card(authority: Authority, unit: UnitId, key: ec.EllipticCurvePublicKey, now: dt.datetime) -> bytes:
    """The card (PEM, with its issuer's certificate) of `unit`'s exchange key: good for key agreement alone.

    The caller has to know that the key is that unit's: voiceprints are sealed to it. Raises SyncError.
    """
    if key.curve.name != "secp256r1":
        raise SyncError("an exchange key is on P-256")
    issued_by = authority.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, unit)]))
        .issuer_name(issued_by.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(min(now + dt.timedelta(days=CARD_DAYS), issued_by.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage("key_agreement"), critical=True)
    )
    return authority.chained(builder.sign(authority.key, hashes.SHA256()))
