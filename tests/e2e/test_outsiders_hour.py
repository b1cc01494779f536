"""The quick form of scripts/outsiders-hour, on a machine that may be busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device.conftest import models as models
from tests.outsiders_hour import hour

pytestmark = pytest.mark.e2e


def test_an_outsiders_hour_blocks_nobody_and_leaves_nothing_of_the_forgotten(
    tmp_path: Path, models: Path
) -> None:
    assert hour(tmp_path, quick=True, within_s=180.0) == 0
