"""Endorsement certificates as makers write them: names out of order, padded, and still theirs or nobody's."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import ProofError
from sync.fleet.provisioning.tpm.ek_certificates import Grade, Graded, grade, in_order, read
from sync.fleet.provisioning.tpm.proof import TpmKey

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
TCG = ("2.23.133.2.1", "id:4E544300"), ("2.23.133.2.2", "NPCT75x"), ("2.23.133.2.3", "id:13")
OWN = ec.generate_private_key(ec.SECP256R1()).public_key()
MAKERS = {"ecc": ec.generate_private_key(ec.SECP256R1()), "rsa": rsa.generate_private_key(65537, 2048)}


class Endorsement:
    """As far as a grade looks at it."""

    key = OWN

    def digest(self) -> str:
        return "00" * 32


def graded(data: bytes, root: x509.Certificate) -> Graded:
    return grade(cast(TpmKey, Endorsement()), data, (), expected=None, roots=(root,), now=NOW)


def signed(subject: x509.Name, key: Any, signer: Any, *, ca: bool) -> x509.Certificate:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(name("maker")).public_key(key)
    made = made.serial_number(7).not_valid_before(NOW - DAY).not_valid_after(NOW + 100 * DAY)
    return made.add_extension(x509.BasicConstraints(ca, None), critical=True).sign(signer, hashes.SHA256())


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2)) + body


def split(data: bytes) -> list[bytes]:
    """Elements behind each other."""
    found = []
    while data:
        count = data[1] & 0x7F if data[1] >= 0x80 else 0
        size = int.from_bytes(data[2 : 2 + count]) if count else data[1]
        found.append(data[: 2 + count + size])
        data = data[2 + count + size :]
    return found


def body(data: bytes) -> bytes:
    return data[2 + (data[1] & 0x7F if data[1] >= 0x80 else 0) :]


@pytest.fixture(params=["ecc", "rsa"])
def odd(request: pytest.FixtureRequest) -> tuple[bytes, x509.Certificate]:
    """A certificate whose name has its parts in the order of a table in the specification, and its root."""
    key: Any = MAKERS[request.param]
    subject = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(ObjectIdentifier(o), v) for o, v in TCG])]
    )
    neat = signed(subject, OWN, key, ca=False)
    parts = split(body(body(subject.public_bytes())))
    turned = tlv(0x30, tlv(0x31, b"".join(reversed(parts))))
    tbs = neat.tbs_certificate_bytes.replace(subject.public_bytes(), turned)
    how = (ec.ECDSA(hashes.SHA256()),) if request.param == "ecc" else (padding.PKCS1v15(), hashes.SHA256())
    algorithm = split(body(neat.public_bytes(Encoding.DER)))[1]
    made = tlv(0x30, tbs + algorithm + tlv(0x03, b"\0" + key.sign(tbs, *how)))
    return made, signed(name("maker"), key.public_key(), key, ca=True)


def test_a_certificate_whose_name_is_out_of_order_is_read_and_its_maker_believed(
    odd: tuple[bytes, x509.Certificate],
) -> None:
    data, root = odd
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        x509.load_der_x509_certificate(data)
    for written in (data, data + b"\xff" * 300, b"\x10\x01\x00" + len(data).to_bytes(2) + data + bytes(9)):
        found = graded(written, root)
        assert (found.grade, found.note, found.certificate) == (Grade.MAKER, "", written)


def test_what_was_changed_in_one_out_of_order_is_believed_no_more(
    odd: tuple[bytes, x509.Certificate],
) -> None:
    data, root = odd
    for at in (data.index(b"NPCT75x"), len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        assert graded(bytes(changed), root).grade == Grade.FIRST_USE
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert graded(data, signed(name("maker"), stranger.public_key(), stranger, ca=True)).note
    assert graded(data, signed(name("other"), root.public_key(), MAKERS["ecc"], ca=True)).note


def test_one_out_of_order_that_was_copied_is_refused(odd: tuple[bytes, x509.Certificate]) -> None:
    data, root = odd
    theirs = Endorsement()
    theirs.key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ProofError, match="copied"):
        grade(cast(TpmKey, theirs), data, (), expected=None, roots=(root,), now=NOW)


def test_what_is_in_order_stays_as_it_is() -> None:
    neat = signed(name("a tpm"), OWN, MAKERS["ecc"], ca=False).public_bytes(Encoding.DER)
    assert in_order(neat) == neat
    assert in_order(neat[:-1]) is None
    assert in_order(b"\x30\x02" * 200) is None


@given(st.binary(max_size=200))
def test_rubbish_is_read_as_nothing(data: bytes) -> None:
    for wrapped in (data, tlv(0x30, data), tlv(0x30, tlv(0x31, data))):
        assert read(wrapped) is None
        ordered = in_order(wrapped)
        assert ordered is None or len(ordered) == len(wrapped)
