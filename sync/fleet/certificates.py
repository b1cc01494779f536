"""A small certificate authority for a site or a test: units, workers and brokers get their certificates.

A hospital with its own PKI uses that instead: all that matters is that a unit's common name is `site/unit`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sync.errors import SyncError
from sync.mqtt import TlsFiles

CA_DAYS = 3650
LEAF_DAYS = 90


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and its key. `issue` writes a leaf's files into a folder."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path, now: dt.datetime) -> Authority:
        """The authority kept in `folder` (ca.pem, ca.key), made on first use."""
        certificate, key = folder / "ca.pem", folder / "ca.key"
        try:
            if not certificate.exists():
                folder.mkdir(parents=True, exist_ok=True)
                made = _self_signed(now)
                _write(key, _pem(made[1]), 0o600)
                _write(certificate, made[0].public_bytes(Encoding.PEM), 0o644)
            loaded = load_pem_private_key(key.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise SyncError("the authority's key is not an elliptic-curve key")
            return cls(folder, x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)
        except (OSError, ValueError) as err:
            raise SyncError(f"the certificate authority in {folder} cannot be used: {err}") from err

    def issue(
        self, common_name: str, now: dt.datetime, hosts: tuple[str, ...] = (), *, renew: bool = True
    ) -> TlsFiles:
        """A key and certificate for `common_name`; `hosts` makes it a server's.

        Raises SyncError when there is one already and `renew` does not say that it may go.
        """
        name = common_name.replace("/", "_")
        files = TlsFiles(self.folder / "ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if not renew and (files.key.exists() or files.certificate.exists()):
            raise SyncError(f"{common_name} has a certificate here; --renew replaces it and its key")
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(common_name, self.certificate.subject, key, now, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            # RFC 5280 4.2.1.1; OpenSSL's strict checks, which Python 3.13 asks for, refuse a leaf without it.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), False)
        signed = builder.sign(self.key, hashes.SHA256())
        _write(files.key, _pem(key), 0o600)
        _write(files.certificate, signed.public_bytes(Encoding.PEM), 0o644)
        return files


def _self_signed(now: dt.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ostiary authority")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder("ostiary authority", name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
