"""The tenant's pseudonym key: one person, one pseudonym at all doors, and nothing readable on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from device.commands.store import store as command
from device.secure_store import StoreSettings, open_store
from device.secure_store.errors import StoreError
from device.secure_store.voiceprints.tenant import FILE
from sync.events import pseudonym
from tests.device.secure_store.conftest import Opener

KEY = bytes(range(100, 132))
LAPTOP = StoreSettings(profile="laptop", keystore="software")


def test_two_units_of_one_tenant_call_a_person_the_same_and_two_without_do_not(tmp_path: Path) -> None:
    def called(folder: str, key: bytes | None) -> str:
        with open_store(tmp_path / folder, LAPTOP, warn=lambda _: None) as opened:
            if key is not None:
                opened.keep_tenant_key(key)
        with open_store(tmp_path / folder, LAPTOP, warn=lambda _: None) as again:
            return str(pseudonym(again.pseudonym_key(), "4711"))

    assert called("one", KEY) == called("two", KEY)
    assert len({called("one", KEY), called("three", None), called("four", None)}) == 3


def test_the_key_lies_enciphered_also_under_a_tpm(unit: Opener, tmp_path: Path) -> None:
    with unit() as opened:
        own = opened.pseudonym_key()
        opened.keep_tenant_key(KEY)
    with unit() as again:
        assert again.pseudonym_key() == KEY != own
    for path in (tmp_path / "unit").rglob("*"):
        assert not path.is_file() or KEY not in path.read_bytes()


def test_a_key_that_is_damaged_or_another_units_is_refused_and_not_replaced_by_our_own(
    laptop: Opener,
) -> None:
    with laptop() as opened:
        opened.keep_tenant_key(KEY)
        path = opened.folder / FILE
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(StoreError, match="damaged or another unit's"):
            opened.pseudonym_key()


@pytest.mark.parametrize("key", [b"", bytes(32), b"password" * 4 + b"!", b"short"])
def test_what_is_no_key_is_not_taken(laptop: Opener, key: bytes) -> None:
    with laptop() as opened, pytest.raises(StoreError, match="32 random bytes"):
        opened.keep_tenant_key(key)


def test_the_commands_make_and_take_a_key(tmp_path: Path) -> None:
    run, key, state = CliRunner().invoke, tmp_path / "tenant.key", tmp_path / "state"
    assert run(command, ["new-tenant-key", "--out", str(key)]).exit_code == 0
    again = run(command, ["new-tenant-key", "--out", str(key)])
    assert isinstance(again.exception, StoreError), "an existing key is never overwritten"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    assert run(command, ["tenant-key", str(key), "--state", str(state)]).exit_code == 0
    with open_store(state, LAPTOP, warn=lambda _: None) as opened:
        assert opened.pseudonym_key() == key.read_bytes()
