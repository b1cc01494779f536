"""The laptop's keystore: loud, refused in production, and otherwise like the real one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from device.secure_store import RollbackError, Store, StoreError, StoreSettings, open_store
from device.secure_store.errors import StoreUnavailableError
from device.secure_store.keystore import BLOCK
from device.secure_store.signing import verify_es256
from device.secure_store.software import SoftwareKeystore
from tests.device.secure_store.people import voiceprint

Opener = Callable[[], Store]


def test_production_refuses_it() -> None:
    with pytest.raises(ValueError, match="production"):
        StoreSettings(profile="production", keystore="software")


def test_it_warns_in_red_at_every_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = StoreSettings(profile="laptop", keystore="software")
    for _ in range(2):
        with open_store(tmp_path, settings) as store:
            assert store.warning is not None
            assert store.warning in capfd.readouterr().err
            assert store.status().warning == store.warning


def test_counters_only_rise_across_restarts(laptop: Opener) -> None:
    seen = []
    for _ in range(3):
        with laptop() as store:
            counter = store.counter("challenge")
            seen.append(counter.value())
            seen.extend(counter.advance() for _ in range(3))
            assert counter.value() == seen[-1]
    assert seen == sorted(seen)
    handed_out = [v for i, v in enumerate(seen) if i % 4]
    assert len(set(handed_out)) == len(handed_out)


def test_a_block_of_numbers_costs_one_write(laptop: Opener) -> None:
    with laptop() as store:
        before = store.keystore.counter("attempts").value()
        numbers = [store.counter("attempts").advance() for _ in range(BLOCK + 1)]
        assert numbers == list(range(numbers[0], numbers[0] + BLOCK + 1))
        assert store.keystore.counter("attempts").value() == before + 2


@pytest.mark.parametrize("name", ["vault", "epoch", "coffee"])
def test_a_counter_that_is_not_for_others_is_refused(laptop: Opener, name: str) -> None:
    with laptop() as store, pytest.raises(StoreError):
        store.counter(name)


def test_macs_differ_by_purpose_and_stay_through_rotation(laptop: Opener) -> None:
    with laptop() as store:
        one, other = store.mac("challenge", b"m"), store.mac("commands", b"m")
        store.vault.rotate()
        assert one == store.mac("challenge", b"m") != other


def test_the_audit_key_signs_es256_and_stays_the_same(laptop: Opener) -> None:
    with laptop() as store:
        signature, key = store.audit_signer.sign(b"head"), store.audit_signer.public_key()
    with laptop() as store:
        assert verify_es256(store.audit_signer.public_key(), b"head", signature) == b"head"
        assert store.audit_signer.public_key() == key
        with pytest.raises(StoreError):
            verify_es256(key, b"other", signature)


def test_an_old_vault_put_back_is_refused(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
    shutil.copytree(tmp_path / "store", tmp_path / "old")
    with laptop() as store:
        store.vault.forget("4711")
    for old in (tmp_path / "old").glob("vault*"):
        shutil.copy(old, tmp_path / "store" / old.name)
    with pytest.raises(RollbackError, match="older than the keystore"):
        laptop()


def test_an_old_keystore_put_back_is_refused(laptop: Opener, tmp_path: Path) -> None:
    with laptop():
        pass
    shutil.copytree(tmp_path / "store" / "software", tmp_path / "old")
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.enrol("4712", voiceprint(2))
    shutil.copytree(tmp_path / "old", tmp_path / "store" / "software", dirs_exist_ok=True)
    with pytest.raises(RollbackError, match="older than the vault"):
        laptop()


def test_a_vault_that_was_deleted_is_not_taken_for_a_new_one(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
    for path in (tmp_path / "store").glob("vault*.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="missing"):
        laptop()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\0" * 241, b"\xff\xfe"])
def test_an_audit_key_that_a_power_cut_left_empty_is_named(
    laptop: Opener, tmp_path: Path, content: bytes
) -> None:
    laptop().close()
    (key,) = tmp_path.rglob("audit-key.pem")
    key.write_bytes(content)
    with pytest.raises(StoreError, match=r"audit-key\.pem of the software keystore is no private key"):
        laptop()


@pytest.mark.parametrize("target", ["/mnt/not-mounted-yet/keystore.json", "keystore.json"])
def test_keys_on_a_disk_that_is_not_mounted_yet_are_not_said_to_be_missing(
    laptop: Opener, tmp_path: Path, target: str
) -> None:
    """The same for a link in a circle: the advice to destroy the vault is for proven loss alone."""
    laptop().close()
    (state,) = tmp_path.rglob("keystore.json")
    kept = state.read_bytes()
    state.unlink()
    state.symlink_to(target)
    with pytest.raises(StoreUnavailableError, match="mount its disk; nothing is lost") as told:
        laptop()
    assert "--replace" not in str(told.value)
    state.unlink()
    state.write_bytes(kept)
    laptop().close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_keys_that_may_not_be_listed_holds_no_lost_key(laptop: Opener, tmp_path: Path) -> None:
    """A glob takes such a folder for an empty one, and the advice was to enrol everybody again."""
    laptop().close()
    (state,) = tmp_path.rglob("keystore.json")
    told = tmp_path / "told"
    child = os.fork()
    if child == 0:  # as the unit's own user, in whose folder root has left other rights
        try:
            for path in (
                *state.parents[: len(state.parents) - len(tmp_path.parents)],
                *state.parent.iterdir(),
            ):
                os.chown(path, 12345, 12345)
            for path in tmp_path.parents:
                path.chmod(path.stat().st_mode | 0o111)
            os.chown(tmp_path, 12345, 12345)
            state.parent.chmod(0o300)
            os.setresuid(12345, 12345, 12345)
            try:
                SoftwareKeystore(state.parent).unlock()
                told.write_text("it opened")
            except (StoreError, OSError) as err:
                told.write_text(f"{type(err).__name__}: {err}")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert told.read_text().startswith("PermissionError")
