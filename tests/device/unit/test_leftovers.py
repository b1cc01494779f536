"""What a kill left half written: gone at the next start, and nobody else's file with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from device.secure_store import Store, StoreSettings, open_store
from device.state_folder import OLD_S, remove_old_drafts
from tests.device.secure_store.people import voiceprint

KILLED_IN_A_REBUILD = """
import os, signal, sys
from pathlib import Path
from device.secure_store import StoreSettings, open_store
rename = Path.replace
def stop(draft, path):
    if path.name == "vault.db":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(draft, path)
Path.replace = stop
with open_store(Path(sys.argv[1]), StoreSettings(profile="laptop", keystore="software"), warn=lambda _: None):
    pass
"""


def test_drafts_of_an_earlier_version_go_and_everything_else_stays(tmp_path: Path) -> None:
    applied = tmp_path / "applied"
    applied.mkdir()
    old = [tmp_path / "history.new", applied / "standing.json.new"]
    kept = [
        *(tmp_path / "history", applied / "standing.json"),
        *(applied / "rules.new", applied / "rules.old"),  # staged: there is no file `rules`
        *(tmp_path / "vault.db", tmp_path / "vault.db.new"),  # perhaps being written, under the vault's lock
        tmp_path / "rules.toml",
    ]
    for path in (*old, *kept):
        path.write_bytes(b"content")
        os.utime(path, (1, 1))
    young = tmp_path / "rules.toml.new"
    young.write_bytes(b"another process writes it")
    (tmp_path / "link").write_bytes(b"")
    (tmp_path / "link.new").symlink_to("history")
    assert sorted(remove_old_drafts(tmp_path)) == sorted(old)
    assert all(path.exists() for path in (*kept, young, tmp_path / "link.new"))
    assert remove_old_drafts(tmp_path, now_s=time.time() + OLD_S + 60) == [young]


def test_a_rebuild_of_the_vault_that_was_killed_leaves_nothing_after_the_next_start(
    tmp_path: Path,
) -> None:
    def laptop() -> Store:
        return open_store(tmp_path, StoreSettings(profile="laptop", keystore="software"), warn=lambda _: None)

    with laptop() as store:
        for number in range(3):
            store.vault.enrol(f"badge {number}", voiceprint(number))
    folder = tmp_path / "store"
    (folder / "vault.db").write_bytes(b"torn")  # made anew from the copy
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_A_REBUILD, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "vault.db.new").exists()
    with laptop() as store:
        assert len(store.vault.uids()) == 3
    (folder / "vault.db.new").write_bytes(b"cut off after the rename of another")
    with laptop() as store:
        assert len(store.vault.uids()) == 3
    assert not [path.name for path in folder.iterdir() if ".new" in path.name]
