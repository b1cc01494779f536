"""No command hangs, and none ends in a traceback, whatever lies where a file belongs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from device.secure_store import StoreSettings, open_store
from device.settings import models_dir
from device.state_folder import StateFolder
from sync.outbox import Outbox
from tests.device.secure_store.people import voiceprint
from tests.strange_files import commands, files_of
from tests.sync.parts import DOORS, UNIT, Clock, event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WITH_FILES = sorted({words[0] for words, command in commands() if files_of(words, command)})
DESTROYS = re.compile("damaged beyond repair|init --replace|remove the store")
SETTINGS = "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"


def environment(folder: Path) -> dict[str, str]:
    config = folder / "ostiary.toml"
    config.write_text(SETTINGS)
    given = {name: value for name, value in os.environ.items() if not name.startswith("OSTIARY_")}
    return given | {
        "OSTIARY_STATE_DIR": str(folder / "state"),
        "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
        "OSTIARY_CONFIG": str(config),
    }


def played(folder: Path, word: str, settings: dict[str, str]) -> list[dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.strange_files", str(folder), word],
        env=settings,
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = folder / "said"
    assert ran.returncode == 0, (ran.stderr, ran.stdout[-500:], said.read_text(errors="replace")[-2000:])
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("word", WITH_FILES)
def test_something_else_than_a_file_gets_one_clear_line(tmp_path: Path, word: str) -> None:
    settings = environment(tmp_path)
    made = [sys.executable, "-c", "from device.cli import main; main()", "registry", "create", "--database"]
    subprocess.run(
        [*made, f"sqlite:///{tmp_path}/registry.db"], env=settings, check=True, capture_output=True
    )
    cases = played(tmp_path, word, settings)
    assert cases
    wrong = [case for case in cases if case["code"] < 0 or "Traceback" in case["said"]]
    assert wrong == []


def test_something_else_in_the_place_of_a_file_of_the_state_is_told_and_costs_nobody_anything(
    tmp_path: Path,
) -> None:
    state = StateFolder(tmp_path / "state")
    laptop = StoreSettings(profile="laptop", keystore="software")
    with open_store(state.root, laptop, warn=lambda _: None) as store:
        store.vault.enrol("4711", voiceprint(1))
    state.audit_log.parent.mkdir()
    with Outbox(state.audit_log, unit=UNIT, doors=DOORS, now_ms=Clock()) as log:
        log.append(event(1))
    cases = played(tmp_path, "--state", environment(tmp_path))
    assert {case["option"] for case in cases} >= {"audit/outbox.db", "store/vault.db", "history"}
    wrong = [case for case in cases if case["code"] < 0 or "Traceback" in case["said"]]
    assert wrong == []
    advised = [case for case in cases if DESTROYS.search(case["said"])]
    assert advised == []
