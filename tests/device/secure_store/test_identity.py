"""The unit's TLS key: enough for a handshake, on no disk in the clear."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store import Store, StoreError
from tests.device.secure_store.people import voiceprint

Opener = Callable[[], Store]


def certify(request_pem: bytes, authority: ec.EllipticCurvePrivateKey) -> bytes:
    request = x509.load_pem_x509_csr(request_pem)
    assert request.is_signature_valid
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(request.subject)
        .public_key(request.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(authority, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_a_handshake_works_with_a_key_that_is_in_no_file(laptop: Opener, tmp_path: Path) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    with laptop() as store:
        identity = store.tls_identity()
        chain = certify(identity.request("unit-1"), authority)
        server, client = (ssl.SSLContext(p) for p in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
        identity.load_into(server, chain)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        ours, theirs = socket.socketpair()
        greeter = threading.Thread(target=lambda: server.wrap_socket(ours, server_side=True).send(b"hello"))
        greeter.start()
        with client.wrap_socket(theirs) as line:
            assert line.recv(5) == b"hello"
            seen = x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"").public_key()
        greeter.join()
        assert seen == identity.public_key()
    for path in (tmp_path / "store").rglob("tls*"):
        assert b"PRIVATE" not in path.read_bytes()


def test_the_key_stays_the_same_through_restarts_and_rotation(laptop: Opener) -> None:
    with laptop() as store:
        key = store.tls_identity().public_key()
        store.vault.enrol("4711", voiceprint(1))
        store.vault.rotate()
    with laptop() as store:
        assert store.tls_identity().public_key() == key


def test_a_damaged_key_or_another_units_is_refused(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.tls_identity()
        path = store.folder / "tls-identity.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(StoreError, match="damaged"):
            store.tls_identity()
        path.write_bytes(b"")
        with pytest.raises(StoreError, match="damaged"):
            store.tls_identity()


def test_somebody_elses_certificate_is_refused(laptop: Opener) -> None:
    with laptop() as store:
        identity = store.tls_identity()
        other = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(other, hashes.SHA256())
        )
        chain = certify(request.public_bytes(serialization.Encoding.PEM), other)
        with pytest.raises(StoreError, match="does not fit"):
            identity.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain)
