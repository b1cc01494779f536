"""`ostiary run` on models of which the newest were damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.model_store import slots
from tests.device.commands.conftest import Ostiary
from tests.device.model_store.bundles import edit_manifest, sign
from tests.speech import Reading

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_a_door_whose_models_are_damaged_serves_with_the_last_good_ones_and_leaves_an_event(
    ostiary: Ostiary, models: Path, tmp_path: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "models"
    for version in (1, 2):
        bundle = tmp_path / f"bundle-{version}"
        shutil.copytree(models, bundle)
        edit_manifest(bundle, lambda document, version=version: document.update(version=version))
        sign(bundle, KEY)
        slots.use(own, bundle, KEY.public_key())
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(own))
    state = slots.read_slots(own)
    assert state is not None
    for part in (own / slots.BUNDLES_NAME / state.current).glob("speaker-*"):
        part.write_bytes(b"broken")
    assert ostiary("run", "--claim", "4711", "--source", reader[4].path).code == 0
    events = json.loads(ostiary("policy", "recent", "--json", "--count", "20").out)
    assert ("FAULT", "model_fault") in {(one["kind"], one["reason"]) for one in events}
