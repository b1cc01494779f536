"""Events: one encoding, no room for anything personal, heads that any COSE library verifies."""

from __future__ import annotations

import dataclasses
import uuid

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.keys import EC2Key
from pycose.messages import Sign1Message

from sync import cose
from sync.errors import MalformedError, ProofError
from sync.events import MAX_EVENT_BYTES, AuditEvent, Record, pseudonym, unit_id
from sync.proofs import chain
from sync.proofs.heads import Head, open_head
from tests.sync.parts import TENANT_KEY, UNIT, SoftwareSigner, event

NAMES = [
    "Maria Rossi",
    "rossi",
    "Rossi",
    "o'brien",
    "Zoë",
    "李雷",
    "call me on 555 0199",
    "ward nine",
    "",
    "\x00",
]


def record(number: int = 1, **changes: object) -> Record:
    return Record(unit_id(UNIT), number, event(number, **changes))


def test_an_event_survives_the_round_trip_and_has_one_encoding() -> None:
    body = record().to_bytes()
    assert Record.from_bytes(body) == record()
    assert Record.from_bytes(body).to_bytes() == body
    assert len(body) < 350


def test_an_event_with_every_optional_field_left_out_survives_too() -> None:
    bare = AuditEvent(
        event_id=uuid.UUID(int=1, version=4), time_ms=0, boot=0, monotonic_ms=0, door="a", kind="BOOT"
    )
    made = Record(unit_id(UNIT), 1, bare)
    assert Record.from_bytes(made.to_bytes()) == made


def test_a_silent_alarm_and_further_scores_survive_and_cost_nothing_where_there_are_none() -> None:
    full = record(silent_alarm=True, more_scores=(("replay_llr", 2.5), ("snr_db", 31.0)))
    assert Record.from_bytes(full.to_bytes()) == full
    plain = cbor2.loads(record().to_bytes())
    assert not {20, 21} & plain.keys(), "events without them are byte for byte what they were"
    for extra in ({20: False}, {21: {}}, {21: {"maria": 1.0}}, {21: {1: 1.0}}, {21: [1.0]}, {20: 1}, {22: 1}):
        with pytest.raises(MalformedError):
            Record.from_bytes(cbor2.dumps({**plain, **extra}, canonical=True))


@pytest.mark.parametrize("field", ["door", "kind", "reason", "policy", "keystore"])
@pytest.mark.parametrize("text", NAMES)
def test_free_text_fits_into_no_field_of_an_attempt(field: str, text: str) -> None:
    if (field, text) == ("door", "rossi"):
        return  # a slug: the outbox refuses it unless a door is called that (test_outbox.py)
    with pytest.raises(MalformedError) as refused:
        event(**{field: text})
    assert not text.strip("\x00") or text not in str(refused.value)


@pytest.mark.parametrize("text", NAMES)
def test_free_text_is_no_model_version(text: str) -> None:
    with pytest.raises(MalformedError):
        event(models=(text,))


@pytest.mark.parametrize(
    "changes",
    [
        {"person": uuid.uuid4()},
        {"person": "badge-1"},
        {"attempt": "1"},
        {"phrase_llr": float("nan")},
        {"spoof_llr": float("inf")},
        {"speaker_llr": 3},
        {"time_ms": -1},
        {"silent_alarm": 1},
        {"silent_alarm": "duress"},
        {"more_scores": [("replay_llr", 1.0)]},
        {"more_scores": (("replay_llr", 1),)},
        {"more_scores": (("replay_llr", float("nan")),)},
        {"more_scores": (("Maria Rossi", 1.0),)},
        {"more_scores": (("snr_db", 1.0), ("replay_llr", 1.0))},
        {"more_scores": (("snr_db", 1.0), ("snr_db", 2.0))},
        {"more_scores": (("snr_db",),)},
        {"time_ms": True},
        {"boot": 1.0},
        {"count": 2**60},
        {"models": ["a1"]},
        {"models": ("a1",) * 9},
        {"timings": [1, 2, 3, 4, 5]},
    ],
)
def test_an_impossible_value_is_refused_on_construction(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        event(**changes)


def test_a_pseudonym_is_stable_per_tenant_and_unlinkable_between_tenants() -> None:
    assert pseudonym(TENANT_KEY, "u1") == pseudonym(TENANT_KEY, "u1")
    assert pseudonym(TENANT_KEY, "u1") != pseudonym(bytes(32), "u1")
    assert pseudonym(TENANT_KEY, "u1") != pseudonym(TENANT_KEY, "u2")
    with pytest.raises(ValueError, match="32 bytes"):
        pseudonym(b"short", "u1")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=MAX_EVENT_BYTES + 10))
def test_random_bytes_are_malformed_and_nothing_else(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Record.from_bytes(data)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_either_refused_or_another_event(position: int, bit: int) -> None:
    body = bytearray(record().to_bytes())
    body[position % len(body)] ^= 1 << bit
    try:
        parsed = Record.from_bytes(bytes(body))
    except MalformedError:
        return
    assert parsed != record()
    assert parsed.to_bytes() == bytes(body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa0",
        b"\x9f" * 900,
        b"\x81" * 1000,
        b"\xbf" * 1000,
        b"\xd8\x1c\xd8\x1d" * 100,
        cbor2.dumps({0: 2}),
        cbor2.dumps({0: 1, 99: 1}),
        cbor2.dumps([1]),
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"x" * (MAX_EVENT_BYTES + 1),
    ],
)
def test_hostile_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Record.from_bytes(data)


def test_trailing_bytes_and_a_second_encoding_are_refused() -> None:
    body = record().to_bytes()
    shuffled = dict(reversed(cbor2.loads(body).items()))
    for other in (body + b"\x00", cbor2.dumps(shuffled)):
        with pytest.raises(MalformedError):
            Record.from_bytes(other)


def head(**changes: object) -> Head:
    made = Head(unit_id(UNIT), 5, b"c" * 32, b"r" * 32, 1_790_000_000_000, 3, 9)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def decoded(signed: bytes) -> Sign1Message:
    """pycose's view of a message. Its own `decode` stumbles over cbor2 6, which gives tuples inside tags."""
    protected, unprotected, payload, signature = cbor2.loads(signed).value
    return Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)


def test_pycose_verifies_a_head_and_refuses_an_edited_one() -> None:
    signer = SoftwareSigner()
    numbers = signer.public_key().public_numbers()
    key = EC2Key(crv="P_256", x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))
    signed = head().signed(signer)
    message = decoded(signed)
    message.key = key
    assert message.verify_signature()
    assert Head.from_bytes(message.payload) == head()
    assert open_head(signed, signer.public_key(), unit_id(UNIT)) == head()
    edited = decoded(signed.replace(b"c" * 32, b"d" * 32))
    edited.key = key
    assert edited.payload != message.payload
    assert not edited.verify_signature()


def test_a_head_by_another_key_of_another_unit_or_another_type_is_refused() -> None:
    signer, other = SoftwareSigner(), SoftwareSigner()
    signed = head().signed(signer)
    with pytest.raises(ProofError):
        open_head(signed, other.public_key(), unit_id(UNIT))
    with pytest.raises(ProofError):
        open_head(signed, signer.public_key(), unit_id("st-mary/icu-3"))
    receipt = cose.sign1(head().to_bytes(), signer, "application/ostiary-receipt+cbor")
    with pytest.raises(MalformedError):
        open_head(receipt, signer.public_key(), unit_id(UNIT))


def test_every_single_bit_flip_of_a_signed_head_is_refused() -> None:
    signer = SoftwareSigner()
    signed = head().signed(signer)
    for position in range(len(signed)):
        for bit in range(8):
            flipped = bytearray(signed)
            flipped[position] ^= 1 << bit
            with pytest.raises((MalformedError, ProofError)):
                open_head(bytes(flipped), signer.public_key(), unit_id(UNIT))


def test_the_chain_binds_order_content_and_unit() -> None:
    bodies = [record(i).to_bytes() for i in range(1, 4)]
    start = chain.genesis(unit_id(UNIT))
    assert chain.extend(start, bodies) == chain.extend(chain.extend(start, bodies[:1]), bodies[1:])
    assert chain.extend(start, bodies) != chain.extend(start, bodies[::-1])
    assert chain.extend(start, bodies) != chain.extend(chain.genesis(unit_id("st-mary/icu-3")), bodies)


@pytest.mark.parametrize("extra", [{20: False}, {15: []}, {21: {}}, {10: None}, {12: 1}, {19: 2.0}])
def test_a_field_that_says_nothing_is_a_second_encoding_and_refused(extra: dict[int, object]) -> None:
    plain = cbor2.loads(Record(unit_id(UNIT), 1, event(1, attempt=None, models=(), count=None)).to_bytes())
    with pytest.raises(MalformedError):
        Record.from_bytes(cbor2.dumps(dict(sorted({**plain, **extra}.items())), canonical=True))


def test_what_is_read_is_written_again_byte_for_byte() -> None:
    for number in range(200):
        changes = (
            {}
            if number % 3
            else {"more_scores": (("replay_llr", number / 7), ("snr_db", 1e5 / (number + 1)))}
        )
        body = Record(unit_id(UNIT), number + 1, event(number, speaker_llr=number / 3, **changes)).to_bytes()
        assert Record.from_bytes(body).to_bytes() == body
