"""The real models, built once by scripts/setup, for every test of the unit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from device.evidence.judge import Judge
from device.settings import Settings, models_dir
from device.unit.assembly import open_judge


@pytest.fixture(scope="session")
def models() -> Path:
    """The built bundle. Without it nothing here means anything, so its absence is a failure."""
    folder = models_dir()
    if not (folder / "manifest.json").is_file():
        pytest.fail("the models are not built; run scripts/setup", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def judge(models: Path) -> Iterator[Judge]:
    """Whisper, CAM++ and the spoof detector, as on a unit."""
    with open_judge(models, Settings()) as opened:
        yield opened
