"""Two processes of one unit on one vault, the first of them open all the while."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from device.secure_store import Store, StoreSettings, open_store

LAPTOP = StoreSettings(profile="laptop", keystore="software")
_OTHER = """
import sys
from pathlib import Path
import numpy as np
from device.secure_store import StoreSettings, Template, open_store
vector = np.zeros(192, np.float32)
vector[0] = 1.0
settings = StoreSettings(profile="laptop", keystore="software")
with open_store(Path(sys.argv[1]), settings) as store:
    if sys.argv[2] == "enrol":
        store.vault.enrol("4711", Template("model", vector, 3))
    else:
        store.vault.forget("4711")
"""


def test_an_open_vault_sees_every_enrolment_and_every_deletion_of_another_process(tmp_path: Path) -> None:
    def other(act: str, store: Store) -> tuple[str, ...]:
        command = [sys.executable, "-c", _OTHER, str(tmp_path), act]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
        return store.vault.uids()

    with open_store(tmp_path, LAPTOP) as store:
        assert store.vault.uids() == ()
        for _ in range(3):
            assert other("enrol", store) == ("4711",)
            assert other("forget", store) == ()
        assert (tmp_path / "store" / "vault.db").exists()


_OPENS_AND_CLOSES = """
import sys
from pathlib import Path
from device.secure_store import StoreSettings, open_store
settings = StoreSettings(profile="laptop", keystore="software")
for _ in range(40):
    with open_store(Path(sys.argv[1]), settings, warn=lambda _: None) as store:
        assert store.vault.uids() == ()
"""


def test_processes_that_close_the_store_together_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    with open_store(tmp_path, LAPTOP):
        pass
    command = [sys.executable, "-c", _OPENS_AND_CLOSES, str(tmp_path)]
    others = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [other.communicate(timeout=180)[1] for other in others]
    assert [other.returncode for other in others] == [0, 0, 0], told
