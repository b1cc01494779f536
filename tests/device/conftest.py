"""The real models, built once by scripts/setup, for every test of the unit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.conversation.opening import ConversationModels, open_models
from device.evidence.judge import Judge
from device.evidence.vocabulary import Language
from device.model_store import slots
from device.model_store.bundle import Bundle
from device.models.second_words import knows
from device.models.self_test import MEMORY_NAME
from device.settings import Settings, models_dir
from device.unit.assembly import open_judge
from quantize.release.build import build


@pytest.fixture(scope="session")
def models() -> Path:
    """The built bundle. Without it nothing here means anything, so its absence is a failure."""
    folder = models_dir()
    if not (folder / "manifest.json").is_file():
        pytest.fail("the models are not built; run scripts/setup", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def german_models(models: Path) -> Path:
    """The built bundle, where it can hear German; `scripts/setup` builds that on machines with the memory."""
    if not knows(Bundle.open(models), Language.GERMAN):
        message = (
            "the larger words model of this version is missing; run `ostiary models build --only words-base`"
        )
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return models


@pytest.fixture(scope="session")
def judge(models: Path) -> Iterator[Judge]:
    """Whisper, CAM++ and the spoof detector, as on a unit."""
    with open_judge(models, Settings()) as opened:
        yield opened


@pytest.fixture(scope="session")
def talking_models(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built bundle with the segmentation in it."""
    folder = tmp_path_factory.mktemp("talking") / "models"
    active = slots.active(models).directory

    def share(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(active, folder, copy_function=share)
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()  # a build would otherwise write through the link
    (folder / "manifest.json").write_bytes(manifest)
    build(folder, only=["segmentation"])
    return folder


@pytest.fixture(scope="session")
def conversation_models(talking_models: Path) -> ConversationModels:
    return open_models(talking_models, talking_models / MEMORY_NAME)
