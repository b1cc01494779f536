"""One speaker model follows another at a real door: real networks, real speech, days that pass."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Outcome
from device.app import run
from device.audio import FileSource
from device.clock import Now, system_clock
from device.model_store.bundle import Bundle
from device.model_store.manifest import Manifest
from device.models.successor import ROLE
from device.settings import Settings
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from sync.events import Record
from tests.device.door.plain_door import PlainDoor
from tests.device.test_app import Recorder, saying

pytestmark = pytest.mark.slow
UID = "4711"
NEXT = "campplus-int8-next-000000000001"


@dataclass
class Days:
    """The machine's clock, so many days on."""

    passed: int = 0

    def __call__(self) -> Now:
        now = system_clock()
        on = timedelta(days=self.passed)
        return replace(now, wall=now.wall + on, monotonic_s=now.monotonic_s + on.total_seconds())


def with_successor(models: Path, folder: Path, *, alone: bool = False) -> Path:
    """The bundle, and the same speaker network under another name as what is to follow; or in its place."""
    shutil.copytree(models, folder, ignore=shutil.ignore_patterns("self-test*.json.*"))
    old = Bundle.open(models).manifest
    speaker = old.entry("speaker")
    files = list(old.files)
    if alone:
        files = [replace(one, version=NEXT) if one.role == "speaker" else one for one in files]
        files = [one for one in files if one.role != "speaker-tflite"]
    else:
        shutil.copyfile(models / speaker.name, folder / "next.onnx")
        files.append(replace(speaker, role=ROLE, name="next.onnx", version=NEXT))
    (folder / "manifest.json").write_bytes(Manifest(old.version, old.minimum_device, tuple(files)).to_bytes())
    (folder / "pick.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def spoken(development_data: Path) -> list[tuple[Path, str]]:
    """Ten sentences of one person: (path, text)."""
    with (development_data / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["speaker"] == "so762-2168"]
    return [
        (development_data / row["path"], row["text"].lower()) for row in sorted(rows, key=lambda r: r["path"])
    ]


def attempt(unit: Unit, path: Path, text: str) -> Decision:
    recorder = Recorder()
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim = [Claim(ClaimKind.BADGE, UID)]
    (decision,) = run(saying(unit, text), claim, FileSource(path), "door-1", door, recorder, Event())
    return decision


def kinds(unit: Unit) -> list[tuple[str, int | None]]:
    unit.log.seal(unit.store.audit_signer)
    held = unit.log.held(1000)
    events = [] if held is None else [Record.from_bytes(body).event for body in held.bodies]
    return [(made.kind, made.count) for made in events if made.kind.startswith(("SUCCESSOR", "CAME"))]


def test_a_person_comes_over_in_three_days_and_notices_nothing(
    tmp_path: Path, models: Path, spoken: list[tuple[Path, str]]
) -> None:
    settings, days = Settings(), Days()
    both = with_successor(models, tmp_path / "both")
    state = tmp_path / "state"
    present = Bundle.open(models).version("speaker")
    versions = []
    with open_unit(settings, state, both, clock=days) as unit:
        tools = Tools(unit.judge, unit.store, settings, state, days)
        enrol(tools, UID, named([path for path, _ in spoken[:3]]), reason="operator")
        for path, text in spoken[3:]:
            days.passed += 1
            decision = attempt(unit, path, text)
            versions.append((decision.outcome, unit.store.vault.growth(NEXT)[UID]))
            if unit.store.vault.growth(NEXT)[UID] is None:
                break
        assert unit.store.vault.growth(NEXT) == {UID: None}, versions
        told = kinds(unit)
        assert [kind for kind, _ in told] == ["SUCCESSOR_HEARD", "SUCCESSOR_HEARD", "SUCCESSOR_READY"]
        assert unit.store.vault.template(UID).model == present, "the old one stays while it may be needed"
    # The bundle with the new model alone: the same person opens, and then the old voiceprint goes.
    alone = with_successor(models, tmp_path / "alone", alone=True)
    path, text = spoken[3 + len(versions)] if 3 + len(versions) < len(spoken) else spoken[0]
    days.passed += 1
    with open_unit(settings, state, alone, clock=days) as unit:
        assert unit.judge.successor is None
        decision = attempt(unit, path, text)
        assert decision.outcome is not Outcome.DENIED_UNKNOWN, "nobody has to enrol again"
        if decision.opens:
            assert kinds(unit)[-1][0] == "CAME_OVER"
            assert unit.store.vault.template(UID).model == NEXT
            assert unit.store.vault.growing(UID) is None
