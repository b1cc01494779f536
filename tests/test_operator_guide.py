"""The operator guide names what is there: tests, commands, settings and services."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from device.access.rules import load_rules
from device.cli import COMMANDS
from device.settings import load
from tests.bad_world import (
    clocks_and_disks,
    disks,
    long_ones,
    machine,
    networks,
    odd_clocks,
    sounds_and_badges,
)
from tests.bad_world.guide import PAGE, faults

ROOT = Path(__file__).resolve().parents[1]
PLAYED = {
    scenario.__name__
    for room in (clocks_and_disks, odd_clocks, disks, machine, sounds_and_badges, networks, long_ones)
    for scenario in room.SCENARIOS
}
GUIDE = sorted((ROOT / "docs" / "operator").glob("*.md"))


def test_every_fault_of_the_guide_has_a_test_that_is_there() -> None:
    rows = faults(PAGE.read_text("utf-8"))
    assert len(rows) >= 15
    for row in rows:
        if row.scenario:
            assert row.scenario in PLAYED, row.scenario
            continue
        path, _, name = row.test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), row.test
        assert row.state
        assert row.remedy


@pytest.mark.parametrize("page", GUIDE, ids=lambda path: path.name)
def test_every_command_of_the_guide_is_one_that_there_is(page: Path) -> None:
    for name in re.findall(r"(?:^|`)ostiary ([a-z][a-z-]+)", page.read_text("utf-8"), re.MULTILINE):
        assert name in COMMANDS, f"{page.name}: ostiary {name}"


def test_every_service_of_the_guide_is_one_that_is_installed() -> None:
    units = {path.name.split(".")[0] for path in (ROOT / "systemd").iterdir()}
    for page in GUIDE:
        for name in re.findall(
            r"systemctl \S+(?: --now| -P StatusText)? (ostiary-[a-z-]+@?)", page.read_text("utf-8")
        ):
            assert name in units, f"{page.name}: {name}"


def test_the_rules_and_settings_that_the_guide_has_people_type_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(
        r"<<'TOML'\n(.*?)\nTOML", (ROOT / "docs/operator/README.md").read_text("utf-8"), re.DOTALL
    )
    settings, rules = blocks
    (tmp_path / "ostiary.toml").write_text(settings)
    load(tmp_path / "ostiary.toml")
    (tmp_path / "rules.toml").write_text(rules)
    assert "pharmacy" in load_rules(tmp_path / "rules.toml").doors
    assert tomllib.loads(rules)["people"]["4711"]["badges"] == ["4711"]


def test_every_test_that_the_page_of_a_bad_world_names_is_there() -> None:
    rows = [
        row for row in (ROOT / "docs" / "bad-world.md").read_text("utf-8").splitlines() if "`tests/" in row
    ]
    assert len(rows) == 23
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert len(named) >= 2, row
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"


def test_the_drawing_of_the_wires_names_the_same_lines_as_the_settings_beside_it() -> None:
    page = (ROOT / "docs" / "operator" / "doors.md").read_text("utf-8")
    (example,) = (
        block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[door.gpio]" in block
    )
    lines = tomllib.loads(example)["door"]["gpio"]
    drawing = (ROOT / "docs" / "images" / "wiring.svg").read_text("utf-8")
    for name in ("strike", "contact", "request_to_exit", "tamper", "fire"):
        assert re.search(rf">{name.replace('_', ' ')}\s+{lines[name]}\b", drawing), name
