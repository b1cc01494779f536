"""The uplink's mail: parts come in pieces, and a kill between two of its acts leaves none lying for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device.uplink.letters.mail import DoorMail
from device.uplink.letters.prints import PrintMail
from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.orders.desired import Part
from sync.orders.parts import Chunk, Want
from sync.threats.prints import signed_kept
from sync.transport.topics import KEPT, PARTS, WANTS
from tests.sync.parts import START_MS, UNIT

DATA = bytes(range(256)) * 8
PART = Part.of(DATA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the door shares with its uplink, where it wants one part."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "wanted.json").write_text(json.dumps({PART.sha256.hex(): PART.size}))
    return tmp_path


def mail(folder: Path) -> DoorMail:
    """Of an uplink that has just started."""
    return DoorMail(folder, unit_id(UNIT), FileSigner.generate().public_key(), lambda: START_MS)


def offsets(letters: list[tuple[str, bytes]]) -> list[int]:
    return [Want.from_bytes(payload).offset for channel, payload in letters if channel == WANTS]


def test_a_part_goes_on_where_an_uplink_that_was_killed_left_it(folder: Path) -> None:
    first = mail(folder)
    assert offsets(first.due(1.0, 1)) == [0]
    first.take(PARTS, Chunk(PART, 0, DATA[:1000]).to_bytes())
    second = mail(folder)
    assert offsets(second.due(1.0, 1)) == [1000]
    second.take(PARTS, Chunk(PART, 1000, DATA[1000:]).to_bytes())
    assert (folder / "parts" / PART.sha256.hex()).read_bytes() == DATA
    assert offsets(second.due(60.0, 1)) == []


def test_a_part_that_was_whole_when_the_uplink_was_killed_is_taken_at_the_next_start(folder: Path) -> None:
    draft = (folder / "parts" / PART.sha256.hex()).with_suffix(".partial")
    draft.write_bytes(DATA)
    assert offsets(mail(folder).due(1.0, 1)) == []
    assert draft.with_suffix("").read_bytes() == DATA
    assert not draft.exists()


@pytest.mark.parametrize("wrong", [DATA[:-1] + b"?", DATA + b"?"])
def test_a_whole_part_that_is_another_is_asked_for_again(folder: Path, wrong: bytes) -> None:
    draft = (folder / "parts" / PART.sha256.hex()).with_suffix(".partial")
    draft.write_bytes(wrong)
    assert offsets(mail(folder).due(1.0, 1)) == [0]
    assert not draft.exists()


@pytest.mark.parametrize("name", ["z" * 64, "../" * 21 + "x", "A" * 64])
def test_a_wish_that_is_no_hash_stops_no_uplink(folder: Path, name: str) -> None:
    (folder / "wanted.json").write_text(json.dumps({name: 5}))
    assert mail(folder).due(1.0, 1) == []


def test_a_print_that_cannot_be_removed_is_an_error_that_ends_no_uplink(tmp_path: Path) -> None:
    registry, unit, name = FileSigner.generate(), unit_id(UNIT), bytes(range(32))
    (tmp_path / f"{name.hex()}.print").mkdir()
    prints = PrintMail(tmp_path, unit, FileSigner.generate(), registry.public_key())
    with pytest.raises(SyncError, match="cannot be removed"):
        prints.take(KEPT, signed_kept(unit, [name], registry))
