"""The facts of a unit's health message: versions and hashes, as on its disk now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from device.access.rules import load_rules
from device.errors import DeviceError
from device.model_store.bundle import MANIFEST_NAME
from device.model_store.slots import read_slots
from device.settings import Settings, models_dir, state_dir
from device.state_folder import StateFolder
from device.uplink.letters.prints import held_list
from sync.plain_file import plain_bytes
from sync.transport.health import STANDINGS, WHYS

UNREADABLE = "unreadable-0"
MAX_STANDING_BYTES = 1024


def unit_facts(settings: Settings) -> dict[str, str | int]:
    """Policy, models, settings and profile of this unit, UNREADABLE where one cannot be read; of a unit that
    follows a fleet also the state of the last document, and how many people it holds.
    """
    return {
        **read_standing(StateFolder(state_dir()).desired / "standing.json"),
        "policy": _or_unreadable(lambda: _policy(StateFolder(state_dir()).rules)),
        "models": _or_unreadable(lambda: _models(models_dir())),
        "settings": _digest(repr(settings).encode()),
        "profile": settings.store.profile,
        "threats": held_list(StateFolder(state_dir()).desired / "prints"),
    }


def read_standing(path: Path) -> dict[str, str | int]:
    """The door process's report on the fleet's last document; empty where it follows none."""
    try:
        told = json.loads(plain_bytes(path)[:MAX_STANDING_BYTES])
        document, people = int(told["document"]), int(told["people"])
        standing, why = str(told["standing"]), str(told["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if standing not in STANDINGS or why not in WHYS or min(document, people) < 0:
        return {}
    found: dict[str, str | int] = {"document": document, "people": people, "standing": standing, "why": why}
    for name in ("fleet_people", "over", "not_over"):  # the last two while one speaker model follows another
        if type(told.get(name)) is int and told[name] >= 0:
            found[name] = told[name]
    return found


def _policy(rules: Path) -> str:
    return f"rules-{load_rules(rules).version if rules.exists() else 0}"


def _models(models: Path) -> str:
    slots = read_slots(models)
    if slots is not None:
        return f"sha256:{slots.current[:16]}"
    manifest = models / MANIFEST_NAME
    return _digest(plain_bytes(manifest)) if manifest.exists() else "none-0"


def _or_unreadable(read: Callable[[], str]) -> str:
    try:
        return read()
    except (DeviceError, OSError):
        return UNREADABLE


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"
