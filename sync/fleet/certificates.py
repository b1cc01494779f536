"""A small certificate authority for a site or a test: it certifies units, workers and brokers.

A site's authority has two keys: the root's, which is taken away after it has signed once, and the issuing
key, which stays. A hospital with its own PKI uses that instead: a unit's common name must be `site/unit`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
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

from sync.durable import replace_file
from sync.errors import SyncError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why
from sync.transport.mqtt import TlsFiles

ROOT_DAYS = 7300
CA_DAYS = 3650
LEAF_DAYS = 90
LIST_DAYS = 30
ISSUING = "issuing"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and its key. `issue` writes a leaf's files into a folder."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path, now: dt.datetime) -> Authority:
        """The authority in `folder`: a site's, or one of ca.pem and ca.key that is made on first use."""
        name = ISSUING if (folder / f"{ISSUING}.pem").exists() else "ca"
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        try:
            if not certificate.exists():
                folder.mkdir(parents=True, exist_ok=True)
                made = _root("ostiary authority", now, CA_DAYS, path_length=0)
                replace_file(key, _pem(made[1]), 0o600)
                replace_file(certificate, made[0].public_bytes(Encoding.PEM), 0o644)
            loaded = load_pem_private_key(plain_bytes(key), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise SyncError("the authority's key is not an elliptic-curve key")
            return cls(folder, x509.load_pem_x509_certificate(plain_bytes(certificate)), loaded)
        except (OSError, ValueError) as err:
            raise SyncError(
                f"the certificate authority in {folder} cannot be used: {what_and_why(err)}"
            ) from err

    @classmethod
    def make_site(cls, folder: Path, root_folder: Path, site: str, now: dt.datetime) -> Authority:
        """A root, whose key goes to `root_folder`, and an issuing authority under it in `folder`.

        Raises SyncError when there is one already: its certificates would stop being good.
        """
        if (folder / "ca.pem").exists() or (root_folder / "root.key").exists():
            raise SyncError(f"there is an authority in {folder} or {root_folder} already; it is not replaced")
        try:
            for made_in in (folder, root_folder):
                made_in.mkdir(mode=0o700, parents=True, exist_ok=True)
            root, root_key = _root(f"{site} root", now, ROOT_DAYS, path_length=1)
            key = ec.generate_private_key(ec.SECP256R1())
            issuing = (
                _builder(f"{site} issuing", root.subject, key.public_key(), now, dt.timedelta(days=CA_DAYS))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_CA_USAGE, critical=True)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False
                )
                .sign(root_key, hashes.SHA256())
            )
            replace_file(root_folder / "root.key", _pem(root_key), 0o600)
            replace_file(folder / f"{ISSUING}.key", _pem(key), 0o600)
            replace_file(folder / f"{ISSUING}.pem", issuing.public_bytes(Encoding.PEM), 0o644)
            replace_file(folder / "ca.pem", root.public_bytes(Encoding.PEM), 0o644)
        except OSError as err:
            raise SyncError(f"the site's authority cannot be written: {what_and_why(err)}") from err
        return cls(folder, issuing, key)

    def issue(
        self,
        common_name: str,
        now: dt.datetime,
        hosts: tuple[str, ...] = (),
        *,
        renew: bool = True,
        into: Path | None = None,
    ) -> TlsFiles:
        """A key and certificate for `common_name`, in `into` or the authority's folder.

        `hosts` makes it a server's. Raises SyncError where there is one already, unless `renew`.
        """
        name, folder = common_name.replace("/", "_"), into or self.folder
        files = TlsFiles(self.folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
        if not renew and (files.key.exists() or files.certificate.exists()):
            raise SyncError(f"{common_name} has a certificate here; --renew replaces it and its key")
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self.sign(key.public_key(), common_name, now, hosts)
        replace_file(files.key, _pem(key), 0o600)
        replace_file(files.certificate, self.chained(signed), 0o644)
        return files

    def sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        now: dt.datetime,
        hosts: tuple[str, ...] = (),
        lasts: dt.timedelta = dt.timedelta(days=LEAF_DAYS),
    ) -> x509.Certificate:
        """A certificate for somebody else's key: a server's where `hosts` are given, else a client's."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(common_name, self.certificate.subject, key, now, lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            # RFC 5280 4.2.1.1; OpenSSL's strict checks, which Python 3.13 asks for, refuse a leaf without it.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), False)
        return builder.sign(self.key, hashes.SHA256())

    def chained(self, certificate: x509.Certificate) -> bytes:
        """`certificate` (PEM), followed by the issuing one where that is not the root itself."""
        chain = [certificate]
        if self.certificate.issuer != self.certificate.subject:
            chain.append(self.certificate)
        return b"".join(one.public_bytes(Encoding.PEM) for one in chain)

    def revocation_list(self, serials: Iterable[int], number: int, now: dt.datetime) -> bytes:
        """A list (PEM, RFC 5280 5) of certificates that no longer count, good for LIST_DAYS."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - dt.timedelta(hours=1))
            .next_update(now + dt.timedelta(days=LIST_DAYS))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        for serial in sorted(serials):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def key_usage(*allowed: str) -> x509.KeyUsage:
    """Allows these uses of a key and no other (RFC 5280 4.2.1.3)."""
    return x509.KeyUsage(**{name: name in allowed for name in _USAGES})


_CA_USAGE = key_usage("digital_signature", "key_cert_sign", "crl_sign")


def _root(
    common_name: str, now: dt.datetime, days: int, path_length: int
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(common_name, name, key.public_key(), now, dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, lasts: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
