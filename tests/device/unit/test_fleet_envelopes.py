"""An enrolment on its way between units of two versions: the door vector travels, and nobody needs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import cbor2
import pytest

from device.secure_store import Consent, StoreError, Template
from device.secure_store.exchange import open_with, seal_to
from device.unit.fleet.envelopes import seal, unseal
from sync.events import UnitId
from sync.orders.desired import Share
from tests.device.secure_store.people import same_voice, voiceprint, with_door
from tests.device.secure_store.test_exchange import KeyInMemory

UNIT = UnitId("st-mary/ward")
SHARE = Share("ANNA", 7, UNIT, b"")
INFO = b"ostiary enrolment v1\0" + cbor2.dumps([UNIT, "ANNA", 7])
GIVEN = datetime(2026, 11, 30, tzinfo=UTC)
CONSENT = Consent("desk", GIVEN, "2026-01", GIVEN + timedelta(days=300))


@pytest.mark.parametrize("template", [voiceprint(1), with_door(1)])
def test_what_is_sealed_is_what_is_enrolled_at_the_other_unit(template: Template) -> None:
    own = KeyInMemory()
    found, consent = unseal(own, seal(SHARE, own.public_key(), template, CONSENT), UNIT, "ANNA", 7)
    assert same_voice(found, template)
    assert consent == CONSENT


def test_a_unit_of_0_1_0_reads_the_enrolment_before_the_door_vector() -> None:
    """It decodes the first item of ten fields and looks at nothing behind it."""
    own = KeyInMemory()
    with_it, without = (
        open_with(own, seal(SHARE, own.public_key(), template, CONSENT), INFO)
        for template in (with_door(1), voiceprint(1))
    )
    assert cbor2.loads(with_it) == cbor2.loads(without)
    assert len(cbor2.loads(with_it)) == 10


@pytest.mark.parametrize(
    "more",
    [
        cbor2.dumps(["rooms 1"]),
        cbor2.dumps(["rooms 1", b"1234"]),
        cbor2.dumps({"rooms 1": b""}),
        cbor2.dumps(["rooms 1", voiceprint(2).vector.tobytes()]) + b"\x00",
        cbor2.dumps(["", voiceprint(2).vector.tobytes()]),
        cbor2.dumps(["rooms 1", voiceprint(2).vector.tobytes()])[:-1],
        b"\xff",
    ],
)
def test_what_follows_an_enrolment_and_is_no_door_vector_is_refused(more: bytes) -> None:
    own = KeyInMemory()
    plain = open_with(own, seal(SHARE, own.public_key(), voiceprint(1), CONSENT), INFO)
    sealed = seal_to(own.public_key(), plain + more, INFO)
    with pytest.raises(StoreError, match="damaged"):
        unseal(own, sealed, UNIT, "ANNA", 7)
