"""Protected templates on real voices: as accurate as plain ones, and strangers to each other across keys."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from bench.door.vault import templates
from device.model_store.bundle import MANIFEST_NAME
from device.settings import models_dir

pytestmark = pytest.mark.slow
SPEAKERS = 24


def test_protection_costs_no_accuracy_and_templates_do_not_link(development_data: Path) -> None:
    if not (models_dir() / MANIFEST_NAME).is_file():
        pytest.skip("no models; run `ostiary models build`")
    options = Namespace(data=development_data, models=None, embeddings=None, draws=100, speakers=SPEAKERS)
    found = templates(options)
    assert found["speakers"] == SPEAKERS
    assert found["EER plain, %"] < 10
    assert found["accuracy loss, points"] <= 0.1
    assert found["largest change of a score"] < 1e-5
    assert 45 <= found["EER across keys, %"] <= 55
    assert found["D_sys without protection"] > 0.8
    assert found["D_sys across keys"] < found["D_sys of an ideal system at this size"] + 0.03
