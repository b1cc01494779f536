"""New models on trial, and `ostiary run` killed twice in that time: a real door goes back by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.cli import cli
from device.model_store import slots
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from device.state_folder import StateFolder
from sync.registry.reports import status
from tests.device.model_store.bundles import edit_manifest, sign
from tests.e2e.site_world import SiteWorld, eventually, site_world
from tests.e2e.test_provisioned_fleet import PATIENCE_S, Door, kinds

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
DESK = "st-mary/desk"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class DoorOfItsOwn(Door):
    """With models of its own, which a roll-out may change."""

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def surroundings(self) -> dict[str, str]:
        return {**super().surroundings, "OSTIARY_MODELS_DIR": str(self.models)}

    @property
    def in_use(self) -> str:
        found = slots.read_slots(self.models)
        return "" if found is None else found.current

    def serve(self) -> None:
        """Start the door process, as systemd does, and wait until it follows its fleet."""
        report = StateFolder(self.state).desired / "standing.json"
        before = report.stat().st_mtime_ns if report.exists() else 0
        self.start_door()
        eventually(lambda: report.exists() and report.stat().st_mtime_ns != before, PATIENCE_S)

    def killed(self) -> None:
        """kill -9, as nothing that runs can hear."""
        assert not self.site.ended("door-desk")
        self.site.stop("door-desk")


def bundle(folder: Path, version: int) -> Path:
    """The real models, signed as this version."""
    shutil.copytree(models_dir(), folder, ignore=shutil.ignore_patterns("pick.json", "self-test.json"))
    edit_manifest(folder, lambda document: document.update(version=version))
    sign(folder, KEY)
    return folder


@pytest.fixture
def site() -> Iterator[SiteWorld]:
    with site_world() as world:
        world.start(worker=True, fleet=True)
        yield world


@pytest.fixture
def desk(site: SiteWorld, tmp_path: Path) -> Iterator[DoorOfItsOwn]:
    with SwTpm(tmp_path / "tpm") as tpm:
        slots.use(tmp_path / "desk/models", bundle(tmp_path / "first", 1), KEY.public_key())
        door = DoorOfItsOwn(tmp_path / "desk", tpm, DESK, site)
        door.start_uplink()
        yield door
        door.stop()


def test_a_door_that_is_killed_twice_while_new_models_are_on_trial_goes_back_and_says_so(
    site: SiteWorld, desk: DoorOfItsOwn, tmp_path: Path
) -> None:
    first = desk.in_use
    desk.serve()
    second = bundle(tmp_path / "second", 2)
    public = tmp_path / "release.pub.pem"
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    stages = ["--canary", f"unit:{DESK}", "--stages", "100", "--soak", "0", "--attempts", "0"]
    site.ostiary("fleet", "roll-out", str(second), "--key", str(public), *stages, *site.db)
    eventually(lambda: site.ended("door-desk"), PATIENCE_S)  # it took them up; systemd starts it again
    assert desk.in_use not in ("", first)
    for _ in range(2):
        desk.serve()
        assert desk.standing()["standing"] == "trial"
        desk.killed()
    desk.serve()
    assert desk.in_use == first, "it serves with the models of before"
    told = desk.standing()
    assert (told["standing"], told["why"]) == ("went_back", "restarted")
    eventually(lambda: "CHANGE_TAKEN_BACK" in kinds(site, DESK), PATIENCE_S)
    assert "MODELS_APPLIED" not in kinds(site, DESK)

    def screen() -> str:
        return CliRunner().invoke(cli, ["fleet", "status", *site.db]).output

    eventually(lambda: "went back: it restarted twice" in " ".join(screen().split()), PATIENCE_S)

    def halted() -> bool:  # by the service, which looks at what units said
        asked = CliRunner().invoke(cli, ["fleet", "status", "--json", *site.db])
        rolled = json.loads(asked.output)["state"]["rollout"]["state"]
        return bool(asked.exit_code == 1 and rolled == "halted")

    eventually(halted, PATIENCE_S)
    with closing(site.store()) as store:
        assert "ROLL_OUT_HALTED" in {str(alarm["kind"]) for alarm in status.open_alarms(store)}
    desk.killed()
    desk.serve()
    assert desk.in_use == first, "and they are not tried again"
