"""`ostiary run` on a file instead of a microphone, and `ostiary demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.isolation import own
from tests.device.commands.conftest import Ostiary
from tests.speech import Reading


def test_a_recording_cannot_answer_a_fresh_phrase(ostiary: Ostiary, reader: list[Reading]) -> None:
    ostiary("enroll", "4711", *(reader[n].path for n in (0, 2, 3)))
    ran = ostiary("run", "--claim", "4711", "--source", reader[4].path)
    assert ran.code == 0
    assert "Please say" in ran.out
    assert "stays locked" in ran.out
    assert "released" not in ran.out


def test_a_settings_file_with_mistakes_stops_the_unit_before_it_starts(
    ostiary: Ostiary, tmp_path: Path
) -> None:
    config = tmp_path / "ostiary.toml"
    config.write_text('[door]\nnmae = "pharmacy"\nunlock_s = 900\n')
    ran = ostiary("run", "--config", config)
    assert ran.code == 3
    assert "nmae" in ran.err
    assert "unlock_s" in ran.err


@pytest.mark.e2e
def test_every_row_of_the_demo_comes_out_as_it_must(ostiary: Ostiary, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    ran = ostiary("demo", "--headless", "--svg", picture)
    assert ran.code == 0, ran.out
    assert "http" not in picture.read_text().replace("http://www.w3.org/2000/svg", "")


def test_a_door_that_must_have_no_network_does_not_start_where_it_has_one(ostiary: Ostiary) -> None:
    if not own().reaches:
        pytest.skip("this machine has no network")
    ran = ostiary("run", "--no-network", "--claim", "4711")
    assert ran.code == 3
    assert "must have no network" in ran.err
