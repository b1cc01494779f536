"""A unit out of its box follows its fleet: real TPMs, broker, registry, uplinks, doors; no hand-work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from device.state_folder import StateFolder
from device.uplink.facts import read_standing
from sync.events import Record, unit_id
from sync.registry import commands
from sync.registry.fleet.status import Screen, screen
from sync.registry.reports import export
from sync.service.command_line import wall_ms
from tests.e2e.site_world import OSTIARY, RULES, SiteWorld, Unit, eventually, site_world

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
DESK, WARD = "st-mary/desk", "st-mary/ward"
PATIENCE_S = 600.0
FINAL = {"done", "refused", "failed", "interrupted", "expired"}
VOICES = Path("/usr/share/pocketsphinx/test/data/librivox")
SPOKEN = [
    VOICES / f"sense_and_sensibility_01_austen_64kb-{number}.wav" for number in ("0870", "0890", "0920")
]


class Door(Unit):
    """A unit with `ostiary sync` and `ostiary run`; a badge reader that shows nothing holds its door open."""

    def __init__(self, folder: Path, tpm: SwTpm, name: str, site: SiteWorld) -> None:
        super().__init__(folder, tpm)
        self.name, self.site, self.running = name, site, "run"
        self.set_up(name)
        said = self.ostiary("provision", site.claim(name))
        assert "it follows what st-mary signs" in said

    @property
    def surroundings(self) -> dict[str, str]:
        return {**super().surroundings, "OSTIARY_MODELS_DIR": str(models_dir())}

    @property
    def short(self) -> str:
        return self.name.partition("/")[2]

    def start(self) -> None:
        self.start_uplink()
        self.start_door()

    def start_uplink(self) -> None:
        command = [*OSTIARY, "sync", "--health-every", "2"]
        self.site.run(f"uplink-{self.short}", command, **self.surroundings)

    def start_door(self) -> None:
        # A pipe that nobody writes to and nobody closes: a reader without badges.
        command = f"{OSTIARY[0]} -c '{OSTIARY[2]}' run --source {SPOKEN[0]} --verbose"
        shell = ["bash", "-c", f"exec {command} < <(exec sleep infinity)"]
        self.site.run(f"door-{self.short}", shell, **self.surroundings)

    def stop(self) -> None:
        self.site.stop(f"door-{self.short}")
        self.site.stop(f"uplink-{self.short}")

    def standing(self) -> dict[str, object]:
        return dict(read_standing(StateFolder(self.state).desired / "standing.json"))


@pytest.fixture(scope="module")
def site() -> Iterator[SiteWorld]:
    with site_world() as world:
        world.start(worker=True, fleet=True)
        yield world


@pytest.fixture(scope="module")
def doors(site: SiteWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, Door]]:
    folder = tmp_path_factory.mktemp("doors")
    with SwTpm(folder / "tpm-1") as first, SwTpm(folder / "tpm-2") as second:
        desk = Door(folder / "desk", first, DESK, site)
        ward = Door(folder / "ward", second, WARD, site)
        for door in (desk, ward):
            door.start()
        yield desk, ward
        for door in (desk, ward):
            door.stop()


def seen(site: SiteWorld) -> Screen:
    with closing(site.store()) as store:
        return screen(store, wall_ms())


def kinds(site: SiteWorld, unit: str) -> list[str]:
    """Of the events that the registry has of `unit`, oldest first."""
    with closing(site.store()) as store:
        bodies = export.bundle(store, unit_id(unit)).events
    return [Record.from_bytes(body).event.kind for body in bodies]


def ordered(site: SiteWorld, unit: str, action: str, *settings: str) -> tuple[str, str]:
    """`ostiary registry command`, and (state, why) of what the unit answered."""
    key = str(site.site.folder / "commands.key")
    chosen = [part for setting in settings for part in ("--set", setting)]
    said = site.ostiary("registry", "command", unit, action, *chosen, "--signing-key", key, *site.db)
    number = int(said.split()[1])

    def answer() -> tuple[str, str] | None:
        with closing(site.store()) as store:
            rows = commands.listed(store, wall_ms(), unit_id(unit))
        (row,) = (row for row in rows if row["counter"] == number)
        return (row["state"], row["why"]) if row["state"] in FINAL else None

    eventually(answer, PATIENCE_S)
    found = answer()
    assert found is not None
    return found


def test_provisioned_doors_apply_rules_and_hold_an_enrolment_without_hand_work(
    site: SiteWorld, doors: tuple[Door, Door]
) -> None:
    desk, ward = doors
    rules = site.folder / "rules.toml"
    rules.write_text(RULES)
    site.ostiary("fleet", "want", "site:st-mary", "--rules", str(rules), *site.db)
    site.ostiary("fleet", "want", f"unit:{DESK}", "--enrols", *site.db)
    eventually(lambda: seen(site).converged == 2, PATIENCE_S)
    for door in doors:
        assert door.standing()["standing"] == "applied"
        assert StateFolder(door.state).rules.read_text() == RULES
    site.ostiary("fleet", "doors", "4711", "site:st-mary", *site.db)
    desk.ostiary("enroll", "4711", *map(str, SPOKEN), "--consent-to", "access-desk")
    eventually(lambda: ward.standing().get("people") == 1, PATIENCE_S)
    eventually(lambda: seen(site).well, PATIENCE_S)


def test_the_keys_are_rotated_by_a_command_over_the_broker(site: SiteWorld, doors: tuple[Door, Door]) -> None:
    before = kinds(site, WARD).count("KEYS_ROTATED")
    assert ordered(site, WARD, "rotate_keys") == ("done", "none")
    eventually(lambda: kinds(site, WARD).count("KEYS_ROTATED") == before + 1, PATIENCE_S)
    assert ordered(site, WARD, "rotate_keys", "person=4711") == ("failed", "bad_arguments")


def test_a_person_is_forgotten_by_a_command_and_nobody_else_is(
    site: SiteWorld, doors: tuple[Door, Door]
) -> None:
    assert ordered(site, WARD, "forget_person", "person=4712") == ("failed", "door_refused")
    assert ordered(site, WARD, "forget_person") == ("failed", "bad_arguments")
    assert ordered(site, WARD, "forget_person", "person=4711") == ("done", "none")
    eventually(lambda: "FORGOTTEN" in kinds(site, WARD), PATIENCE_S)
    assert "FORGOTTEN" not in kinds(site, DESK)


def test_models_are_taken_up_by_a_command_and_the_door_starts_again(
    site: SiteWorld, doors: tuple[Door, Door]
) -> None:
    before = kinds(site, WARD).count("MODELS_APPLIED")
    assert ordered(site, WARD, "apply_models") == ("done", "none")
    eventually(lambda: kinds(site, WARD).count("MODELS_APPLIED") == before + 1, PATIENCE_S)
    eventually(lambda: site.ended("door-ward"), PATIENCE_S)  # systemd starts it again
    assert ordered(site, WARD, "apply_models") == ("failed", "door_refused"), "nobody is there to obey"
