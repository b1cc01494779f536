"""The pattern of an event against what it stands for: decode, construct, encode again, compare."""

from __future__ import annotations

import random
import struct
import uuid
from typing import Any

import cbor2
import pytest

from sync.errors import MalformedError
from sync.event_form import EventFields, read_event
from sync.events import MAX_EVENT_BYTES, AuditEvent, EventTimings, Record, unit_id
from sync.vocabulary import SCORES
from tests.steps import steps
from tests.sync import fuzz
from tests.sync.parts import UNIT, event

PLAIN = {
    4: "time_ms", 5: "boot", 6: "monotonic_ms", 7: "door", 8: "kind", 9: "reason", 12: "phrase_llr",
    13: "speaker_llr", 14: "spoof_llr", 16: "policy", 18: "keystore", 19: "count", 20: "silent_alarm",
}  # fmt: skip


def by_definition(data: bytes) -> Record:
    """Slow and plain: whatever decodes to a valid event and is written again byte for byte."""
    fields: dict[Any, Any] = cbor2.loads(data)
    ids = {
        name: uuid.UUID(bytes=fields[key])
        for key, name in ((3, "event_id"), (10, "attempt"), (11, "person"))
        if key in fields
    }
    made = AuditEvent(
        **ids,
        **{name: fields[key] for key, name in PLAIN.items() if key in fields},
        models=tuple(fields.get(15, ())),
        timings=EventTimings(*fields[17]) if 17 in fields else None,
        more_scores=tuple(sorted(fields.get(21, {}).items())),
    )
    if type(fields[2]) is not int or not 1 <= fields[2] <= 2**53 or fields[0] != 1:
        raise MalformedError("version or place")
    record = Record(unit_id(fields[1]), fields[2], made)
    if record.to_bytes() != data or len(data) > MAX_EVENT_BYTES:
        raise MalformedError("another encoding")
    return record


def agree(data: bytes) -> bool:
    """Whether it is an event; both readers must say the same, and read the same."""
    try:
        expected = by_definition(data)
    except Exception:  # noqa: BLE001 - nothing looks at types before it constructs
        with pytest.raises(MalformedError):
            read_event(data)
        return False
    assert Record.from_bytes(data) == expected
    return True


def body(**changes: Any) -> bytes:
    return Record(unit_id(UNIT), 7, event(3, **changes)).to_bytes()


def test_what_a_fuzzer_makes_of_events_is_read_by_the_pattern_as_by_the_definition() -> None:
    dice = random.Random(11)
    found = [agree(next(fuzz.hostile("event", dice))) for _ in range(1500)]
    assert 10 < sum(found) < 1200, "some of them are still events"


def test_a_flipped_bit_of_an_event_is_read_by_the_pattern_as_by_the_definition() -> None:
    whole = body(silent_alarm=True, count=300, more_scores=(("replay_llr", 1.5), ("snr_db", 3.3)))
    for at in range(0, len(whole) * 8, 3):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        agree(bytes(flipped))


@pytest.mark.parametrize("form", [">e", ">f", ">d"])
def test_a_number_has_one_of_three_lengths_and_no_other_is_taken(form: str) -> None:
    dice, start = random.Random(2), body(phrase_llr=1e5 / 3).index(b"\x0c\xfb")
    size = struct.calcsize(form)
    patterns = range(0, 1 << 16, 61) if size == 2 else (dice.getrandbits(8 * size) for _ in range(800))
    values = [struct.pack(form, value) for value in (0.0, -0.0, 1.5, -65504.0, 65505.0, 1e6, 1e6 + 1, 1e-7)
              if size > 2 or abs(value) <= 65504]  # fmt: skip
    whole, first = body(phrase_llr=1e5 / 3), {2: b"\xf9", 4: b"\xfa", 8: b"\xfb"}[size]
    for raw in (*values, *(pattern.to_bytes(size) for pattern in patterns)):
        agree(whole[: start + 1] + first + raw + whole[start + 10 :])


@pytest.mark.parametrize("number", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, 2**53 + 1])
def test_a_whole_number_is_read_in_its_shortest_form_only(number: int) -> None:
    plain = cbor2.loads(body())
    for field in (2, 4, 5, 6, 19):
        agree(cbor2.dumps(dict(sorted({**plain, field: number}.items())), canonical=True))
    for size, head in ((1, b"\x18"), (2, b"\x19"), (4, b"\x1a"), (8, b"\x1b")):
        if number < 256**size:
            whole = body(boot=9)
            agree(whole.replace(b"\x05\x09\x06", b"\x05" + head + number.to_bytes(size) + b"\x06"))


@pytest.mark.parametrize("total", [0, 23, 24, 65535, 65536, 3_599_999, 3_600_000, 3_600_001, 0x370000, 2**31])
def test_a_timing_is_an_hour_at_most(total: int) -> None:
    plain = {**cbor2.loads(body()), 17: [1, 2, total, 4, 5]}
    assert agree(cbor2.dumps(plain, canonical=True)) == (total <= 3_600_000)


def test_scores_are_the_vocabularys_each_once_and_in_one_order() -> None:
    everything = tuple((name, 1.0 + at) for at, name in enumerate(sorted(SCORES)))
    assert agree(body(more_scores=everything))
    plain = cbor2.loads(body())
    for more in ({"a": 1.0}, {"replay_llr": 1}, {"replay_llr": float("nan")}, {}, {"snr_db": 1.0, 1: 2.0}):
        assert not agree(cbor2.dumps({**plain, 21: more}, canonical=True))
    pair = b"\x66snr_db\xf9\x3c\x00"
    one = body(more_scores=(("snr_db", 1.0),))
    assert one.endswith(b"\xa1" + pair)
    assert not agree(one[: -len(pair) - 1] + b"\xa2" + pair + pair)


def test_texts_have_the_length_that_they_say() -> None:
    whole = body()
    for before, after in (
        (b"\x65icu-2", b"\x66icu-2"),
        (b"\x65icu-2", b"\x64icu-2"),
        (b"\x65icu-2", b"\x78\x05icu-2"),
        (b"\x68software", b"\x69software"),
        (b"\x82", b"\x81"),
        (b"\x82", b"\x83"),
    ):
        assert before in whole
        assert not agree(whole.replace(before, after))
    long = "a" * 31 + "/" + "b" * 32
    assert agree(Record(unit_id(long), 7, event(3, policy="1" * 64, models=("2" * 64,) * 8)).to_bytes())


def test_reading_an_event_takes_a_few_lines_of_python() -> None:
    one = body()
    read_event(one)
    assert steps(lambda: read_event(one)) < 100
    assert isinstance(read_event(one), EventFields)
