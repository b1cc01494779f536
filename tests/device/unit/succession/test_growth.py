"""One speaker model follows another at a real door: real networks, real speech, days that pass."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Outcome
from device.app import run
from device.audio import FileSource
from device.cli import cli
from device.clock import Now, system_clock
from device.model_store.bundle import Bundle
from device.model_store.manifest import BundleError, Manifest
from device.models.second_speaker import BEFORE, SecondSpeaker
from device.models.second_speaker import NEXT as FOLLOWS
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


def with_second(models: Path, folder: Path, role: str | None) -> Path:
    """The bundle, with the same speaker network under another name: as what follows (`speaker-next`), as what
    is in use with the one before beside it (`speaker-before`), or as the only one (None).
    """
    shutil.copytree(models, folder, ignore=shutil.ignore_patterns("self-test*.json.*"))
    old = Bundle.open(models).manifest
    speaker = old.entry("speaker")
    files = [one for one in old.files if role == FOLLOWS or one.role != "speaker-tflite"]
    if role != FOLLOWS:
        files = [replace(one, version=NEXT) if one.role == "speaker" else one for one in files]
    if role is not None:
        shutil.copyfile(models / speaker.name, folder / "second.onnx")
        version = NEXT if role == FOLLOWS else speaker.version
        files.append(replace(speaker, role=role, name="second.onnx", version=version))
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


def speakers(unit: Unit, path: Path, text: str) -> list[str]:
    """By which speaker models an attempt was decided, as the log has it."""
    attempt(unit, path, text)
    unit.log.seal(unit.store.audit_signer)
    held = unit.log.held(1000)
    assert held is not None
    events = [Record.from_bytes(body).event for body in held.bodies]
    decided = next(made for made in reversed(events) if made.models)
    return list(decided.models[1:-1])


def asked(monkeypatch: pytest.MonkeyPatch, state: Path, models: Path) -> dict[str, object]:
    """`ostiary store successor`, of a unit that does not run."""
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(state))
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(models))
    done = CliRunner().invoke(cli, ["store", "successor", "--json"])
    assert done.exit_code == 0, done.output
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def kinds(unit: Unit) -> list[tuple[str, int | None]]:
    unit.log.seal(unit.store.audit_signer)
    held = unit.log.held(1000)
    events = [] if held is None else [Record.from_bytes(body).event for body in held.bodies]
    return [(made.kind, made.count) for made in events if made.kind.startswith(("SUCCESSOR", "CAME"))]


def test_a_person_comes_over_in_three_days_and_notices_nothing(
    tmp_path: Path, models: Path, spoken: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, days = Settings(), Days()
    both = with_second(models, tmp_path / "both", FOLLOWS)
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
        days.passed += 1
        path, text = next(
            (p, t)
            for (p, t), (outcome, _) in zip(spoken[3:], versions, strict=False)
            if outcome is Outcome.GRANTED
        )
        assert speakers(unit, path, text) == [present, NEXT], "both decide"
        assert [kind for kind, _ in kinds(unit)] == [kind for kind, _ in told], "and nothing grows any more"
    told_by_desk = {"model": NEXT, "people": {UID: None}, "by_both": [UID], "to_enrol": []}
    assert asked(monkeypatch, state, both) == told_by_desk
    # The bundle in which the newer one is in use, and the older one goes on beside it: nobody enrols again.
    followed = with_second(models, tmp_path / "followed", BEFORE)
    days.passed += 1
    with open_unit(settings, state, followed, clock=days) as unit:
        assert unit.judge.speaker.version == NEXT
        assert speakers(unit, path, text) == [present, NEXT]
        assert unit.store.vault.template(UID).model == present
    # The newer one alone: what has grown does not stand alone.
    alone = with_second(models, tmp_path / "alone", None)
    days.passed += 1
    with open_unit(settings, state, alone, clock=days) as unit:
        assert attempt(unit, path, text).outcome is Outcome.DENIED_UNKNOWN
        tools = Tools(unit.judge, unit.store, settings, state, days)
        enrol(tools, UID, named([path for path, _ in spoken[:3]]), reason="operator")
    # Enrolled in person by the newer one: it decides alone, also where the older one is still there.
    with open_unit(settings, state, followed, clock=days) as unit:
        assert speakers(unit, path, text) == [NEXT]
    assert asked(monkeypatch, state, followed) == {**told_by_desk, "by_both": []}


def test_a_bundle_with_a_model_before_and_one_to_follow_is_refused(tmp_path: Path, models: Path) -> None:
    both = with_second(models, tmp_path / "both", FOLLOWS)
    found = Bundle.open(both).manifest
    third = replace(found.entry(FOLLOWS), role=BEFORE, name="third.onnx")
    shutil.copyfile(both / "second.onnx", both / "third.onnx")
    manifest = Manifest(found.version, found.minimum_device, (*found.files, third))
    (both / "manifest.json").write_bytes(manifest.to_bytes())
    with pytest.raises(BundleError, match="one speaker model is followed at a time"):
        SecondSpeaker.open(Bundle.open(both), BEFORE)
