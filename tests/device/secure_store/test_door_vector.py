"""The second vector of a voiceprint: kept, moved and erased with the first."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import numpy as np
import pytest

from device.secure_store import Consent, ConsentError, DoorVector, NotEnrolledError, Template
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.records import (
    Person,
    RowKeys,
    open_row,
    seal_row,
    unwrap_key,
)
from tests.device.secure_store.conftest import Opener
from tests.device.secure_store.people import MODEL, same_voice, voiceprint, with_door
from tests.device.secure_store.test_growing import growing


def test_both_vectors_come_back_whatever_the_vault_does_in_between(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", with_door(1))
        store.vault.enrol("4712", voiceprint(2))
    with laptop() as store:
        assert same_voice(store.vault.template("4711"), with_door(1))
        assert same_voice(store.vault.template("4712"), voiceprint(2))
        store.vault.rotate()
        store.vault.grow("4711", growing((3, 5)))
        enrolled, grown, _ = store.vault.voiceprints("4711")
        assert same_voice(enrolled, with_door(1))
        assert grown is not None
        store.vault.enrol("4711", voiceprint(3))
        assert store.vault.template("4711").door is None, "who enrols anew begins anew"
        store.vault.enrol("4711", with_door(4))
        store.vault.forget("4711")
        with pytest.raises(NotEnrolledError):
            store.vault.template("4711")


def test_neither_vector_lies_readable_on_the_disk(laptop: Opener, tmp_path: Path) -> None:
    def stored() -> bytes:
        return b"".join(p.read_bytes() for p in sorted((tmp_path / "store").glob("vault*")))

    template = with_door(1)
    assert template.door is not None
    with laptop() as store:
        store.vault.enrol("4711", template)
    for vector in (template.vector, template.door.vector):
        assert not any(vector[at : at + 2].tobytes() in stored() for at in range(191))
    assert template.door.made.encode() not in stored()


def test_of_one_enrolment_at_two_units_not_even_the_angle_between_both_vectors_is_the_same() -> None:
    one = np.float32(0.6) * with_door(1).vector
    near = DoorVector("rooms 1", unit(one + np.float32(0.2) * voiceprint(5).vector))
    template = replace(with_door(1), door=near)
    angles = [cosine_at_rest(template) for _ in range(6)]
    assert float(template.vector @ near.vector) > 0.9
    assert max(map(abs, angles)) < 0.4, "by one rotation each would be the cosine above"


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def cosine_at_rest(template: Template) -> float:
    """Of both vectors as a new unit keeps them, by somebody who has deciphered its record."""
    secrets = [SecretBytes.random(32) for _ in range(3)]
    keys, row_id = RowKeys(uuid.uuid4(), 1, *secrets), uuid.uuid4()
    given = datetime(2026, 11, 30, tzinfo=UTC)
    person = Person("4711", template, Consent("desk", given, "1", given + timedelta(days=9)), 1)
    row = seal_row(keys, row_id, b"", person, 1)
    size = int.from_bytes(row.record[:2], "big")
    header, sealed = row.record[2 : 2 + size], row.record[2 + size :]
    bound = b"ostiary record\0" + keys.unit.bytes + row_id.bytes + header
    with unwrap_key(keys, row) as key:
        fields = cbor2.loads(key.decrypt(sealed, bound))
    assert same_voice(open_row(keys, row).template, template)
    for secret in secrets:
        secret.wipe()
    vector, door = (np.frombuffer(one, "<f4") for one in (fields["vector"], fields["door"][1]))
    return float(vector @ door)


def test_wiping_a_template_overwrites_both() -> None:
    template = with_door(1)
    assert template.door is not None
    template.wipe()
    assert not template.vector.any()
    assert not template.door.vector.any()
    assert "0." not in repr(with_door(1))


def test_no_vector_that_the_vault_opened_stays_in_memory(
    laptop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of who enrols anew, whose voiceprint grows, or whose consent has run out."""
    opened, stack = [], np.stack

    def stacked(rows: list[np.ndarray]) -> np.ndarray:
        opened.extend((*rows, stack(rows)))
        return opened[-1]

    monkeypatch.setattr(np, "stack", stacked)  # which every vector goes through on its way out of a record
    with laptop() as store:
        vault = store.vault
        vault.enrol("4711", with_door(1))
        vault.enrol("4711", with_door(2))
        vault.grow("4711", growing((3, 5)))
        vault.grow("4711", growing((3, 5, 6)))
        vault.go_by(lambda: datetime(2126, 1, 1, tzinfo=UTC))
        with pytest.raises(ConsentError):
            vault.template("4711")
    assert len(opened) > 3
    assert not any(one.any() for one in opened)


VECTOR = voiceprint(9).vector


@pytest.mark.parametrize(
    ("made", "vector"),
    [("", VECTOR), ("m" * 65, VECTOR), ("rooms 1", 2 * VECTOR), ("rooms 1", VECTOR.astype(np.float64))],
)
def test_what_is_no_door_vector_is_refused(made: str, vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"door vector|template"):
        DoorVector(made, vector)


def test_a_door_vector_of_another_size_than_the_voiceprints_is_refused() -> None:
    longer = np.full(256, 1 / 16, np.float32)
    with pytest.raises(ValueError, match="of one model"):
        Template(MODEL, VECTOR, 3, DoorVector("rooms 1", longer))
