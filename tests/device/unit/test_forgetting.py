"""A person who is forgotten is in no byte of the state folder, whether or not the door runs meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from device.access.controller import AccessController
from device.access.memory.history import History
from device.access.memory.remembered import Position
from device.access.rules import default_rules
from device.access.voices import is_enrolled
from device.secure_store import NotEnrolledError, Store, StoreSettings, Template, open_store
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Unit
from device.unit.enrolment import forget
from device.unit.watch import Watch

PEOPLE = [f"badge-{number:05d}" for number in range(70_001, 70_021)]
GONE = PEOPLE[7]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    settings = StoreSettings(profile="laptop", keystore="software")
    with open_store(tmp_path, settings, warn=lambda _: None) as opened:
        for number, uid in enumerate(PEOPLE):
            vector = np.random.default_rng(number).standard_normal(192).astype(np.float32)
            opened.vault.enrol(uid, Template("m-1", vector / np.float32(np.linalg.norm(vector)), 3))
        yield opened


@contextmanager
def history_of(store: Store, state: Path) -> Iterator[History]:
    counter = store.keystore.counter("attempts")
    with closing(History(StateFolder(state).history, counter, store.mac, opened_s=0.0)) as history:
        yield history


def used(history: History) -> None:
    here = Position("maternity", datetime(2026, 11, 24, tzinfo=UTC))
    for uid in PEOPLE:
        history.charge(f"person:{uid}", 1.0)
    history.settle((), dict.fromkeys(PEOPLE, here))


def found_in(state: Path) -> list[str]:
    return [p.name for p in state.rglob("*") if p.is_file() and GONE.encode() in p.read_bytes()]


def test_forgetting_one_of_twenty_leaves_no_byte_of_them(store: Store, tmp_path: Path) -> None:
    with history_of(store, tmp_path) as history:
        used(history)
    forget(store, Settings(), tmp_path, GONE)
    assert found_in(tmp_path) == []
    with history_of(store, tmp_path) as history:
        assert history.position(GONE) is None
        assert f"person:{GONE}" not in history.failing()
        assert len(history.failing()) == len(PEOPLE) - 1


def test_a_running_door_forgets_them_too(store: Store, tmp_path: Path) -> None:
    with history_of(store, tmp_path) as history:
        used(history)
        rules = default_rules("door-1")
        controller = AccessController(
            "site-1/unit-1", rules, history, store.mac, enrolled=partial(is_enrolled, store.vault)
        )
        unit = cast(Unit, SimpleNamespace(controller=controller))
        nothing = cast(Any, None)  # an order to forget moves no strike and shows nothing
        folder = StateFolder(tmp_path).orders
        with Watch(unit, "door-1", nothing, nothing, orders_folder=folder, rules=lambda: rules):
            forget(store, Settings(), tmp_path, GONE)
        assert history.position(GONE) is None
        assert f"person:{GONE}" not in history.failing()
    with pytest.raises(NotEnrolledError):
        store.vault.record_id(GONE)
    assert found_in(tmp_path) == []
