"""Starts and ends following a fleet, for `ostiary run`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from device.errors import DeviceError
from device.model_store.minimum_versions import pinned_document, pinned_minimum
from device.secure_store import Store
from device.settings import Settings, models_dir, own_models_dir
from device.unit.assembly import Unit
from device.unit.fleet.applied import MAX_STARTS, Applied, Plan
from device.unit.fleet.follower import Follower
from sync.plain_words import what_and_why

log = logging.getLogger(__name__)


class Following:
    """The follower of a unit with `[fleet] commands`; does nothing for one without."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._settings = settings
        self._state = state
        self._plan: Plan | None = None

    def take_up(self, store: Store) -> bool:
        """Call `take_up`; returns whether models are on trial."""
        if self._settings.fleet.commands is not None:
            self._plan = take_up(store, self._state, own_models_dir())
        return self._plan is not None

    def begin(self, unit: Unit, parts: ExitStack) -> Callable[[], str]:
        """Follow until `parts` ends; returns `Follower.trouble`."""
        if self._settings.fleet.commands is None:
            return lambda: ""
        made = Follower(unit, self._settings, self._state, own_models_dir(), models_dir(), self._plan)
        parts.enter_context(made)
        return made.trouble


def take_up(store: Store, state: Path, models: Path) -> Plan | None:
    """Before anybody is served: finish the change of a document, or go back. Returns the plan on trial."""
    applied = Applied(state, models)
    plan = applied.plan(pinned_document(store.vault))
    if plan is None:
        return None
    if plan.taken_back or plan.starts >= MAX_STARTS:
        applied.go_back(plan, plan.taken_back or "restarted")
        return None
    try:
        applied.finish(plan, pinned_minimum(store.vault))
    except (DeviceError, OSError) as err:
        log.error("a change that was committed cannot be taken up: %s", what_and_why(err))
        applied.go_back(plan, "fault")
        return None
    if not plan.bundle:
        applied.clear()
        return None
    return applied.started(plan)
