"""A store on a laptop's keystore, opened and closed at will."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device.secure_store import Store, StoreSettings, open_store

LAPTOP = StoreSettings(profile="laptop", keystore="software")

Opener = Callable[[], Store]


@pytest.fixture
def laptop(tmp_path: Path) -> Opener:
    """Opens the same store each time it is called; close it with `with`."""
    return lambda: open_store(tmp_path, LAPTOP, warn=lambda _: None)
