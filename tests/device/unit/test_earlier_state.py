"""A state folder that version 0.1.0 left behind, before modules moved and names changed, still opens.

`tests/data/state-0.1.0.tar.gz` was written by that version on a laptop's software key store: one voiceprint
of made-up numbers, a failed attempt, a lock-down, a log of three events, one remembered sound, and the
manifest of the bundle it had built.
"""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from device.access.memory.history import History
from device.access.replay_guard import ReplayGuard
from device.clock import Now
from device.model_store.manifest import Manifest
from device.secure_store import Store, open_store
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import open_log, open_trail, rules_of

ARCHIVE = Path(__file__).parents[2] / "data" / "state-0.1.0.tar.gz"
NOW = Now(datetime(2026, 11, 29, 4, 30, tzinfo=UTC), 2000.0)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    with open_store(state, Settings().store, clock=lambda: NOW.wall, warn=lambda _: None) as opened:
        yield opened


def test_its_voiceprints_are_read(store: Store) -> None:
    expected = np.random.default_rng(1).standard_normal(192).astype(np.float32)
    template = store.vault.template("4711", model="campplus-192@1")
    assert np.allclose(template.vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert template.door is None


def test_its_failures_and_its_lock_down_count_and_its_sounds_are_remembered(
    state: Path, store: Store
) -> None:
    history = History(
        StateFolder(state).history,
        store.keystore.counter("attempts"),
        store.mac,
        opened_s=NOW.monotonic_s,
        never_used=store.never_used("attempts"),
    )
    assert history.locked_down("door-1")
    assert history.pardon("person:4711"), "the failure is there to be taken back"
    memory = ReplayGuard(
        state,
        store.mac,
        at_least=history.memory_version,
        now=NOW.wall,
        noted=history.memory_reached,
    )
    wave = np.random.default_rng(2).standard_normal(32_000).astype(np.float32) * 0.1
    assert memory.memory.find(memory.memory.fingerprinter(wave)).reused_share > 0.5
    memory.close()
    history.close()
    with closing(sqlite3.connect(StateFolder(state).replay_memory)) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    assert "habits" not in tables, "how people pause and pace is not kept any more"


def test_its_log_goes_on_where_it_ended(state: Path, store: Store) -> None:
    settings = Settings()
    with open_trail(store, settings, state, lambda: NOW) as trail:
        trail.note("FAULT", "operator", "door-1")
    counter = store.keystore.counter("audit")
    with open_log(settings, state, rules_of(state, "door-1"), lambda: NOW, counter=counter) as log:
        assert log.status().sequence == 4
        assert log.seal(store.audit_signer) is not None


def test_the_manifest_of_its_bundle_is_read(state: Path) -> None:
    manifest = Manifest.from_bytes((StateFolder(state).models / "manifest.json").read_bytes())
    assert {"words", "speaker", "spoof"} <= {entry.role for entry in manifest.files}
