"""The first start of a unit: one question, and settings that hold."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from device.settings import load
from tests.device.commands.conftest import Ostiary


def test_a_unit_with_a_tpm_is_set_up_for_production_by_the_name_of_its_door(
    ostiary: Ostiary, tmp_path: Path
) -> None:
    (tmp_path / "policy-authority.pem").write_text("a public key")
    file = tmp_path / "ostiary.toml"
    ran = ostiary(
        "first-boot", "--door", "pharmacy", "--unit", "st-mary/icu-2", "--tcti", "tabrmd", "--settings", file
    )
    assert ran.code == 0, ran.err
    settings = load(file)
    assert (settings.door.name, settings.door.unit) == ("pharmacy", "st-mary/icu-2")
    assert (settings.store.profile, settings.store.keystore) == ("production", "tpm")
    assert settings.store.policy_authority == tmp_path / "policy-authority.pem"
    assert ran.out.index("ostiary store measure") < ran.out.index(
        "systemctl start"
    )  # it cannot start unsealed


def test_a_unit_gets_a_name_of_its_own_from_the_machine_it_is(ostiary: Ostiary, tmp_path: Path) -> None:
    for number in (1, 2):
        file = tmp_path / f"{number}.toml"
        assert ostiary("first-boot", "--door", "icu", "--trial", "--settings", file).code == 0
    units = {tomllib.loads((tmp_path / f"{n}.toml").read_text())["door"]["unit"] for n in (1, 2)}
    assert len(units) == 1
    assert units.pop().startswith("site-1/unit-")


def test_the_units_own_user_can_read_the_settings_whatever_mask_root_has(
    ostiary: Ostiary, tmp_path: Path
) -> None:
    file = tmp_path / "etc" / "ostiary.toml"
    before = os.umask(0o027)
    try:
        assert ostiary("first-boot", "--door", "icu", "--trial", "--settings", file).code == 0
    finally:
        os.umask(before)
    assert file.parent.stat().st_mode & 0o777 == 0o755
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_unit_that_is_set_up_is_not_set_up_again(ostiary: Ostiary, tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text("# mine\n")
    ran = ostiary("first-boot", "--door", "icu", "--trial", "--settings", file)
    assert ran.code == 3
    assert "is there already" in ran.err
    assert file.read_text() == "# mine\n"


@pytest.mark.parametrize("name", ["Phar macy!", "", 'a"b', "x" * 200])
def test_a_name_that_events_could_not_hold_is_refused_before_anything_is_written(
    ostiary: Ostiary, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "ostiary.toml"
    ran = ostiary("first-boot", "--door", name, "--trial", "--settings", file)
    assert ran.code == 3
    assert not file.exists()


def test_without_the_policy_key_the_unit_says_what_to_copy_where(ostiary: Ostiary, tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    ran = ostiary("first-boot", "--door", "icu", "--tcti", "tabrmd", "--settings", file)
    assert ran.code == 3
    assert str(tmp_path / "policy-authority.pem") in ran.err
    assert not file.exists()
