"""Prints and threat lists on their way: who can read them, and what is refused."""

from __future__ import annotations

import random

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.models.spoof.prints import VALUES as MADE_VALUES
from device.models.spoof.prints import shipped
from device.secure_store.exchange import seal_to
from sync.errors import MalformedError, ProofError
from sync.events import unit_id
from sync.orders.commands import MAX_ARGUMENT_BYTES, Command, open_command
from sync.threats.listed import MOST, Threat, ThreatList
from sync.threats.prints import (
    MODEL,
    VALUES,
    Print,
    SealedPrint,
    likeness,
    open_kept,
    open_print,
    print_info,
    signed_kept,
)
from tests.sync.parts import START_MS, SoftwareSigner

UNIT, OTHER = unit_id("st-mary/icu-2"), unit_id("st-mary/icu-3")
TENANT = ec.generate_private_key(ec.SECP256R1())
POINT = TENANT.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
FOUND = Print(MODEL, bytes(range(1, VALUES + 1)))


def sealed(unit=UNIT, sequence=7, key=TENANT):
    return SealedPrint(unit, sequence, seal_to(key.public_key(), FOUND.to_bytes(), print_info(unit)))


def full_list():
    threats = tuple(Threat(900_000 + n, random.Random(n).randbytes(VALUES), 999) for n in range(MOST))
    return ThreatList(2**40, START_MS, MODEL, POINT, threats)


def test_the_units_prints_are_those_that_the_registry_knows() -> None:
    assert (shipped().version, MADE_VALUES) == (MODEL, VALUES)


def test_a_print_opens_with_the_tenants_key_and_no_other_and_as_no_other_units() -> None:
    signer = SoftwareSigner()
    message = sealed().signed(signer)
    assert FOUND.values not in message
    assert open_print(message, signer.public_key(), UNIT).opened(TENANT) == FOUND
    with pytest.raises(ProofError):
        open_print(message, SoftwareSigner().public_key(), UNIT)
    with pytest.raises(ProofError):
        open_print(message, signer.public_key(), OTHER)
    with pytest.raises(ProofError):
        sealed().opened(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ProofError):
        SealedPrint(OTHER, 7, sealed().sealed).opened(TENANT)


def test_a_print_that_was_changed_on_the_way_is_refused() -> None:
    signer, dice = SoftwareSigner(), random.Random(1)
    message = sealed().signed(signer)
    for _ in range(40):
        at = dice.randrange(len(message))
        changed = message[:at] + bytes([message[at] ^ (1 << dice.randrange(8))]) + message[at + 1 :]
        with pytest.raises((MalformedError, ProofError)):
            open_print(changed, signer.public_key(), UNIT).opened(TENANT)


@pytest.mark.parametrize("values", [b"", bytes(VALUES), bytes(VALUES - 1), bytes([1]) * (VALUES + 1)])
def test_a_print_has_its_values_and_is_not_nothing(values: bytes) -> None:
    with pytest.raises(MalformedError):
        Print(MODEL, values)


def test_likeness_is_one_with_itself_and_turns_with_the_sign() -> None:
    turned = bytes((256 - value) & 0xFF for value in FOUND.values)
    assert likeness(FOUND.values, FOUND.values) == pytest.approx(1.0)
    assert likeness(FOUND.values, turned) == pytest.approx(-1.0)


def test_a_full_list_fits_a_command_and_comes_back() -> None:
    signer, whole = SoftwareSigner(), full_list()
    assert len(whole.to_bytes()) < MAX_ARGUMENT_BYTES
    message = Command(UNIT, 1, START_MS, START_MS + 1000, "apply_threats", {"list": whole.to_bytes()})
    opened = open_command(message.signed(signer), signer.public_key(), UNIT, START_MS)
    assert ThreatList.from_bytes(opened.arguments["list"]) == whole


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 2),
        (1, 0),
        (2, -1),
        (3, "Maria"),
        (4, bytes(65)),
        (5, [1, 1]),
        (5, [1]),
        (6, [499, 900]),
        (7, b"x"),
    ],
)
def test_what_is_no_list_of_threats_is_refused(field: int, value: object) -> None:
    two = ThreatList(1, START_MS, MODEL, POINT, (Threat(1, FOUND.values, 800), Threat(2, FOUND.values, 800)))
    fields = cbor2.loads(two.to_bytes())
    with pytest.raises(MalformedError):
        ThreatList.from_bytes(cbor2.dumps({**fields, field: value}, canonical=True))


def test_a_list_that_nearly_everybody_matches_cannot_be_made() -> None:
    with pytest.raises(MalformedError):
        Threat(1, FOUND.values, 300)


def test_a_receipt_is_for_one_unit_and_by_the_registry() -> None:
    signer = SoftwareSigner()
    message = signed_kept(UNIT, [sealed().name()], signer)
    assert len(open_kept(message, signer.public_key(), UNIT)) == 1
    with pytest.raises(ProofError):
        open_kept(message, signer.public_key(), OTHER)
    with pytest.raises(ProofError):
        open_kept(message, SoftwareSigner().public_key(), UNIT)
