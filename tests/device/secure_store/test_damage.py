"""Bits flip in the vault's file: the damage is found, named and contained."""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device.secure_store import NotEnrolledError, RecordDamagedError, Store, StoreError, StoreUnavailableError
from tests.device.secure_store.people import ledger_of, same_voice, voiceprint

Opener = Callable[[], Store]
PEOPLE = 12


@pytest.fixture
def vault(laptop: Opener, tmp_path: Path) -> Path:
    with laptop() as store:
        for i in range(PEOPLE):
            store.vault.enrol(f"badge {i}", voiceprint(i))
    return tmp_path / "store"


@contextmanager
def as_it_was(folder: Path) -> Iterator[None]:
    """Whatever the test breaks is put back, the keystore's counters included."""
    keep = folder.with_name("kept")
    shutil.copytree(folder, keep)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        keep.rename(folder)


def flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << bit]))


def flip_record(path: Path, record_id: uuid.UUID) -> None:
    """One bit of one person's enciphered record, wherever SQLite keeps it."""
    with sqlite3.connect(path) as db:
        (record,) = db.execute("SELECT record FROM people WHERE id = ?", (record_id.bytes,)).fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    flip(path, path.read_bytes().index(record) + len(record) // 2, 0)


def flips(path: Path, count: int) -> list[tuple[int, int]]:
    """Places in SQLite's header, and all over the file, unused space included."""
    dice = random.Random(5)
    size = path.stat().st_size
    head = [(at, dice.randrange(8)) for at in range(0, 100, 7)]
    return head + [(dice.randrange(size), dice.randrange(8)) for _ in range(count)]


@pytest.mark.parametrize("name", ["vault.db", "vault-copy.db"])
def test_a_bit_flip_anywhere_in_one_file_costs_nobody_anything(
    vault: Path, laptop: Opener, name: str
) -> None:
    noticed = 0
    spots = flips(vault / name, 25)
    for at, bit in spots:
        with as_it_was(vault):
            flip(vault / name, at, bit)
            with laptop() as store:
                for i in range(PEOPLE):
                    assert same_voice(store.vault.template(f"badge {i}"), voiceprint(i)), (at, bit)
                status = store.vault.status()
                assert not status.damaged
                noticed += bool(status.notes)
            with laptop() as store:  # what was damaged has been mended
                assert not store.vault.status().notes, (at, bit)
    assert noticed == len(spots), "a flip went unnoticed"


def test_a_flipped_record_is_restored_from_the_copy_and_named(vault: Path, laptop: Opener) -> None:
    with laptop() as store:
        record_id = store.vault.record_id("badge 3")
    flip_record(vault / "vault.db", record_id)
    with laptop() as store:
        assert store.vault.status().repaired == (record_id,)
        assert str(record_id) in "\n".join(store.vault.status().notes)


def test_a_record_flipped_in_both_files_is_named_and_everybody_else_works(
    vault: Path, laptop: Opener
) -> None:
    with laptop() as store:
        record_id = store.vault.record_id("badge 3")
    for name in ("vault.db", "vault-copy.db"):
        flip_record(vault / name, record_id)
    for _ in range(2):  # still known after the next restart
        with laptop() as store:
            assert store.vault.status().damaged == (record_id,)
            assert any(str(record_id) in note for note in store.vault.status().notes)
            for i in set(range(PEOPLE)) - {3}:
                assert same_voice(store.vault.template(f"badge {i}"), voiceprint(i))
    with laptop() as store:
        store.vault.rotate()  # an administrator's work goes on
        assert store.vault.status().damaged == (record_id,)
        receipt = store.vault.forget_records([record_id], "damaged")[0]
        assert receipt.record_id == record_id
        store.vault.enrol("badge 3", voiceprint(3))
        assert store.vault.status().damaged == ()
        assert len(store.vault.uids()) == PEOPLE


def test_damage_while_the_unit_runs_is_mended_at_the_next_use(vault: Path, laptop: Opener) -> None:
    with laptop() as store:
        record_id = store.vault.record_id("badge 3")
        with sqlite3.connect(vault / "vault.db") as db:
            db.execute("UPDATE people SET record = zeroblob(900) WHERE id = ?", (record_id.bytes,))
        assert same_voice(store.vault.template("badge 3"), voiceprint(3))


def test_a_row_put_in_the_place_of_another_does_not_open(vault: Path, laptop: Opener) -> None:
    """The thief knows SQLite, not the key: they give a colleague's voiceprint to a director's badge."""
    with laptop() as store:
        director, colleague = (store.vault.record_id(f"badge {i}") for i in (0, 1))
    for name in ("vault.db", "vault-copy.db"):
        with sqlite3.connect(vault / name) as db:
            db.execute(
                "UPDATE people SET (wrapped, record) = (SELECT wrapped, record FROM people WHERE id = ?) "
                "WHERE id = ?",
                (colleague.bytes, director.bytes),
            )
    with laptop() as store:
        with pytest.raises(RecordDamagedError):
            store.vault.template("badge 0")
        assert same_voice(store.vault.template("badge 1"), voiceprint(1))


def test_an_old_row_put_back_alone_does_not_open(vault: Path, laptop: Opener) -> None:
    """Each row is genuine; only the head knows that one of them is yesterday's."""
    rows = {}
    with laptop() as store:
        record_id = store.vault.record_id("badge 0")
    for name in ("vault.db", "vault-copy.db"):
        with sqlite3.connect(vault / name) as db:
            rows[name] = db.execute("SELECT * FROM people WHERE id = ?", (record_id.bytes,)).fetchone()
    with laptop() as store:
        store.vault.enrol("badge 0", voiceprint(100))
    for name, row in rows.items():
        with sqlite3.connect(vault / name) as db:
            db.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)", row)
    with laptop() as store, pytest.raises(RecordDamagedError):
        store.vault.template("badge 0")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_vault_is_replaced_by_its_copy(vault: Path, laptop: Opener, content: bytes) -> None:
    (vault / "vault.db").write_bytes(content)
    with laptop() as store:
        assert len(store.vault.uids()) == PEOPLE
        assert store.vault.status().notes


def test_both_files_destroyed_is_said_and_not_taken_for_an_empty_vault(vault: Path, laptop: Opener) -> None:
    for name in ("vault.db", "vault-copy.db"):
        (vault / name).write_bytes(b"\xff" * 8192)
    with pytest.raises(StoreError, match="beyond repair"):
        laptop()


def test_every_bit_of_one_row_counts(laptop: Opener) -> None:
    """The row itself, without the head's protection: no bit of it can change unseen."""
    from device.secure_store.voiceprints.records import Row, open_row

    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        with ledger_of(store) as ledger:
            row = ledger.row(store.vault.record_id("4711"))
            assert row is not None
            for field in ("wrapped", "record"):
                whole = getattr(row, field)
                assert whole
                for at in range(0, len(whole), 3):
                    changed = bytearray(whole)
                    changed[at] ^= 1 << at % 8
                    parts = {"wrapped": row.wrapped, "record": row.record, field: bytes(changed)}
                    with pytest.raises(RecordDamagedError, match=str(row.record_id)):
                        open_row(ledger.keys, Row(row.record_id, row.tag, **parts))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow, as on a disk without a free byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_not_read_as_damage_and_costs_nobody_anything(vault: Path, laptop: Opener) -> None:
    with full_disk(), pytest.raises(StoreUnavailableError, match="nothing is lost") as refused:
        laptop()
    assert "--replace" not in str(refused.value)
    assert "damaged" not in str(refused.value)
    with laptop() as store:
        assert len(store.vault.uids()) == PEOPLE
        assert store.vault.status().notes == ()


def test_a_disk_that_fills_up_while_the_unit_runs_refuses_the_change_and_keeps_the_rest(
    vault: Path, laptop: Opener
) -> None:
    with laptop() as store:
        with full_disk(), pytest.raises(StoreUnavailableError):
            store.vault.enrol("new", voiceprint(99))
        assert same_voice(store.vault.template("badge 1"), voiceprint(1))
        store.vault.enrol("new", voiceprint(99))
        assert len(store.vault.uids()) == PEOPLE + 1


def test_a_person_whose_record_is_damaged_for_good_can_be_forgotten_by_name_after_restarts(
    vault: Path, laptop: Opener
) -> None:
    with laptop() as store:
        record_id = store.vault.record_id("badge 3")
    for name in ("vault.db", "vault-copy.db"):
        flip_record(vault / name, record_id)
    for _ in range(2):
        with laptop() as store:
            assert store.vault.record_id("badge 3") == record_id
            with pytest.raises(RecordDamagedError, match=str(record_id)):
                store.vault.template("badge 3")
    with laptop() as store:
        store.vault.forget("badge 3")
        assert store.vault.status().damaged == ()
        assert store.vault.status().people == PEOPLE - 1
    with laptop() as store:
        assert store.vault.status().notes == ()


@pytest.mark.parametrize("lost", ["keystore.json", "every file"])
def test_a_keystore_that_lost_its_files_is_not_made_anew_over_a_vault(
    vault: Path, laptop: Opener, lost: str
) -> None:
    keys = vault / "software"
    with as_it_was(vault):
        for path in [keys / lost] if lost == "keystore.json" else list(keys.iterdir()):
            path.unlink()
        with pytest.raises(StoreError, match="there is a vault here"):
            laptop()
        assert (vault / "vault.db").stat().st_size > 0
    with laptop() as store:
        assert len(store.vault.uids()) == PEOPLE


def test_a_keystore_that_calls_itself_fresh_beside_a_vault_erases_nobody(vault: Path, laptop: Opener) -> None:
    facts = vault / "software" / "keystore.json"
    facts.write_text(facts.read_text().replace('"fresh": false', '"fresh": true'))
    with laptop() as store:
        assert len(store.vault.uids()) == PEOPLE
    assert '"fresh": false' in facts.read_text()


def test_a_record_of_which_nothing_is_left_is_named_and_can_be_forgotten(vault: Path, laptop: Opener) -> None:
    with laptop() as store:
        record_id = store.vault.record_id("badge 3")
    for name in ("vault.db", "vault-copy.db"):
        with sqlite3.connect(vault / name) as db:
            db.execute("DELETE FROM people WHERE id = ?", (record_id.bytes,))
    with laptop() as store:
        with pytest.raises(NotEnrolledError, match="forget --record"):
            store.vault.forget("badge 3")
        store.vault.forget_records([record_id], "damaged")
        assert store.vault.status().damaged == ()


def test_a_file_that_is_replaced_by_something_else_while_the_store_is_open_is_written_again(
    vault: Path, laptop: Opener
) -> None:
    with laptop() as store:
        for broken in (b"no database at all" * 500, (vault / "vault.db").read_bytes()[:700], b""):
            foreign = vault / "foreign"
            foreign.write_bytes(broken)
            foreign.replace(vault / "vault.db")
            for i in range(PEOPLE):
                assert same_voice(store.vault.template(f"badge {i}"), voiceprint(i))
        assert not store.vault.status().damaged
