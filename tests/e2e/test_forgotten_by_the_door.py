"""Nothing of somebody who was forgotten stays in the memory of a door that goes on running."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from device.audio import load_utterance
from device.evidence.judge import Judge
from device.secure_store import open_store
from device.secure_store.settings import StoreSettings
from device.settings import Settings
from tests.bad_world.world import Unit
from tests.device.conftest import judge as judge
from tests.device.conftest import models as models
from tests.memory_scan import as_the_service, counts_in
from tests.speech import Reading

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GONE = "KAUFMANN-209317"
NEEDLE_BYTES = 48


def pieces(vector: np.ndarray) -> list[bytes]:
    content = vector.tobytes()
    return [content[start : start + NEEDLE_BYTES] for start in (128, 320, 512)]


def test_after_forget_the_running_door_holds_neither_id_nor_template_nor_voice(
    tmp_path: Path, models: Path, reader: list[Reading], judge: Judge
) -> None:
    unit = made(tmp_path, models)
    assert unit.does("enroll", GONE, *(reader[number].path for number in (0, 2, 3))).code == 0
    with open_store(unit.state, StoreSettings(profile="laptop", keystore="software")) as store:
        template = store.vault.template(GONE).vector.copy()
    wave = load_utterance(reader[1].path, Settings().audio).wave()
    wanted = {
        "id": [GONE.encode(), GONE.lower().encode()],
        "template": pieces(template),
        "voice": pieces(judge.speaker.embed(wave)),
        "sound": [wave[at : at + NEEDLE_BYTES // 4].tobytes() for at in (8_000, 16_000, 20_000)],
    }
    with unit.door("--source", reader[1].path) as door:
        door.shows("Show your badge")
        door.badge(GONE)
        door.shows("Please say")
        assert sum(counts_in(door.pid, wanted["id"])) > 0, "the search finds what is there"
        door.shows("DENIED_PHRASE|DENIED_VOICE")
        door.shows("Show your badge")
        assert unit.does("forget", GONE).code == 0
        found = {name: counts_in(door.pid, needles) for name, needles in wanted.items()}
    assert found == {name: [0] * len(needles) for name, needles in wanted.items()}


def made(folder: Path, models: Path) -> Unit:
    config = folder / "ostiary.toml"
    (folder / "page").mkdir()
    config.write_text(
        "[store]\nprofile = 'laptop'\nkeystore = 'software'\n[door]\nunit = 'site-1/unit-1'\n"
        "[judge]\ntimeout_s = 60.0\n"
    )
    environment = {
        **as_the_service("door"),
        "OSTIARY_STATE_DIR": str(folder / "state"),
        "OSTIARY_MODELS_DIR": str(models),
        "OSTIARY_CONFIG": str(config),
    }
    return Unit(folder, {**os.environ, **environment})
