"""Waiting for what another thread or process does: as long as it takes on a slow, busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 180.0
"""Says that something hangs, and nothing else: what is waited for usually comes within a second."""


def wait_until(
    true: Callable[[], object], within_s: float = PATIENCE_S, told: Callable[[], object] = str
) -> None:
    """Return when `true` holds; fail after `within_s` with what `told` returns."""
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, f"it did not come about in {within_s:.0f} s {told()}"
        time.sleep(0.01)
