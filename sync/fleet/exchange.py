"""Which exchange key is which unit's: the certificate that a unit asks for before it shares an enrolment."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sync.errors import SyncError
from sync.events import UnitId
from sync.fleet.certificates import Authority

CARD_DAYS = 1825


def card(authority: Authority, unit: UnitId, key: ec.EllipticCurvePublicKey, now: dt.datetime) -> bytes:
    """The certificate (PEM, with its issuer's) of `unit`'s exchange key: for agreeing on secrets alone.

    The issuer has to know that the key is in that unit's TPM: with a card for a key of their own
    somebody would be sent voiceprints. Raises SyncError.
    """
    if key.curve.name != "secp256r1":
        raise SyncError("an exchange key is on P-256")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
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
        .add_extension(usage, critical=True)
    )
    return authority.chained(builder.sign(authority.key, hashes.SHA256()))
