"""A disk that does not give the vault proves no damage, and one that gives it again is believed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device.secure_store import Store
from tests.bad_world.failing_disk import FailingDisk, Fails
from tests.device.secure_store.people import voiceprint
from tests.speech import require_tools

Opener = Callable[[], Store]
ANOTHER = """
import sys
from pathlib import Path
from device.secure_store import StoreSettings, open_store
from tests.device.secure_store.people import voiceprint

settings = StoreSettings(profile="laptop", keystore="software")
with open_store(Path(sys.argv[1]), settings, warn=lambda _: None) as store:
    store.vault.enrol("4712", voiceprint(2))
"""
LOOKS = """
import subprocess
import sys
from pathlib import Path
from device.secure_store import StoreSettings, StoreUnavailableError, open_store
from tests.bad_world.failing_disk import Fails, fail

def opened():
    settings = StoreSettings(profile="laptop", keystore="software")
    return open_store(Path(sys.argv[1]), settings, warn=lambda _: None)

def look(store):
    try:
        print("served", store.vault.template("4711").model)
    except StoreUnavailableError as err:
        print("unavailable:", err)

mark, at, number, inode = Path(sys.argv[2]), Fails(int(sys.argv[3])), int(sys.argv[4]), int(sys.argv[5])
with opened() as store:
    look(store)
    subprocess.run([sys.executable, "-c", ANOTHER, sys.argv[1]], check=True)
    fail(mark, at, number, inode)
    look(store)
    fail(mark, Fails.NOTHING)
    look(store)
fail(mark, at, number, inode)
try:
    with opened() as store:
        look(store)
        print("notes", store.vault.status().notes)
except StoreUnavailableError as err:
    print("unavailable:", err)
fail(mark, Fails.NOTHING)
with opened() as store:
    look(store)
"""
"""Of a store that is open while another process writes and the disk fails, then of one that is opened."""


def looked(laptop: Opener, tmp_path: Path, under: str, at: Fails, number: int, only: str = "") -> list[str]:
    require_tools(("cc",), "gcc")
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
    disk = FailingDisk(tmp_path, tmp_path / "store" / under)
    held = (tmp_path / "store" / (only or "vault.db")).open("rb")  # no other file gets its number meanwhile
    inode = os.fstat(held.fileno()).st_ino if only else 0
    arguments = [str(tmp_path), str(disk.mark), str(int(at)), str(number), str(inode)]
    with held:
        ran = subprocess.run(
            [sys.executable, "-c", f"ANOTHER = {ANOTHER!r}{LOOKS}", *arguments],
            env={**os.environ, **disk.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert "beyond repair" not in ran.stdout
    assert "init --replace" not in ran.stdout
    return [line for line in ran.stdout.splitlines() if line != "notes ()"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("at", [Fails.READ, Fails.READ | Fails.OPEN])
def test_a_disk_that_does_not_give_the_vault_proves_no_damage_and_costs_nobody_anything(
    laptop: Opener, tmp_path: Path, at: Fails, number: int
) -> None:
    before, meanwhile, after, opened, again = looked(laptop, tmp_path, "vault", at, number)
    assert before == after == again
    assert before.startswith("served")
    for told in (meanwhile, opened):
        assert told.startswith("unavailable")
        assert "the disk" in told or "the server" in told or "cannot be opened" in told


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_keys_that_the_disk_does_not_give_are_not_called_damaged(
    laptop: Opener, tmp_path: Path, number: int
) -> None:
    *_, opened, again = looked(laptop, tmp_path, "software/keystore", Fails.READ, number)
    assert opened.startswith("unavailable: keystore.json of the store cannot be used now")
    assert "OSError" not in opened
    assert again.startswith("served")


def test_one_file_that_the_disk_does_not_give_is_written_again_from_the_other(
    laptop: Opener, tmp_path: Path
) -> None:
    lines = looked(laptop, tmp_path, "vault", Fails.READ, errno.EIO, "vault.db")
    assert len(lines) == 5
    assert all(line.startswith("served") for line in lines), lines
