"""A store on a laptop's keystore, and one on a real TPM in software, opened and closed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device.secure_store import Store, StoreSettings, open_store
from device.secure_store.hardware.swtpm import SwTpm

LAPTOP = StoreSettings(profile="laptop", keystore="software")

Opener = Callable[[], Store]


@pytest.fixture
def laptop(tmp_path: Path) -> Opener:
    """Opens the same store each time it is called; close it with `with`."""
    return lambda: open_store(tmp_path, LAPTOP, warn=lambda _: None)


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[SwTpm]:
    """A TPM that was never used, powered on. A missing swtpm fails: nothing here is proved without it."""
    tpm = SwTpm(tmp_path / "swtpm").start()
    yield tpm
    tpm.power_cut()


@pytest.fixture
def unit(tmp_path: Path, swtpm: SwTpm) -> Opener:
    """Opens the store of one unit with that TPM."""
    return lambda: open_store(tmp_path / "unit", swtpm.settings())
