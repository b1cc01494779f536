"""`ostiary config`: what counts, where it comes from, and every mistake at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device.commands.installed.config import MASK, leaves
from device.settings import Settings, load, settings_file
from tests.device.commands.conftest import Ostiary


def test_every_setting_says_whether_it_is_a_default_or_comes_from_the_file(
    ostiary: Ostiary, tmp_path: Path
) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text('[door]\nname = "pharmacy"\n[audio.endpointer]\nend_ms = 500\n')
    found = {
        item["key"]: item for item in json.loads(ostiary("config", "show", "--config", file, "--json").out)
    }
    assert found["door.name"] == {"key": "door.name", "value": "pharmacy", "source": str(file)}
    assert found["audio.endpointer.end_ms"]["value"] == 500
    assert found["door.unlock_s"] == {"key": "door.unlock_s", "value": 5.0, "source": "default"}
    assert found["state folder"]["source"] == "OSTIARY_STATE_DIR"
    changed = ostiary("config", "show", "--config", file, "--changed").out
    assert "end_ms" in changed
    assert "unlock_s" not in changed


def test_every_setting_that_there_is_can_be_shown(ostiary: Ostiary) -> None:
    shown = ostiary("config", "show").out
    for key in ("door.phrases", "store.pcrs", "api.port", "judge.words", "feedback.page"):
        assert f"{key} = " in shown


def test_a_secret_is_masked_and_an_empty_one_is_not() -> None:
    @dataclass(frozen=True)
    class Reader:
        key: str = field(default="", metadata={"secret": True})
        port: str = "/dev/ttyUSB0"

    masked, plain = leaves(Reader(key="00112233"), Reader(), {"key": "00112233"}, "", "file")
    assert (masked.value, masked.source) == (MASK, "file")
    assert plain.value == "/dev/ttyUSB0"
    empty, _ = leaves(Reader(), Reader(), {}, "", "file")
    assert empty.value == ""


def test_every_mistake_of_a_file_is_listed_with_the_nearest_key(ostiary: Ostiary, tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text('[door]\nnmae = "x"\nunlock_s = 900\n[sotre]\n')
    ran = ostiary("config", "check", file)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 3
    assert "did you mean `name`?" in ran.err
    assert "did you mean `store`?" in ran.err


def test_a_file_without_mistakes_is_named(ostiary: Ostiary, tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text("[door]\nunlock_s = 3\n")
    ran = ostiary("config", "check", file)
    assert (ran.code, ran.out) == (0, f"{file}: no mistake\n")


def test_the_file_of_the_system_counts_where_nothing_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "ostiary.toml"
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    assert settings_file(system=system) is None
    system.write_text('[door]\nname = "icu"\n')
    assert load(system=system).door.name == "icu"
    monkeypatch.setenv("OSTIARY_CONFIG", "")
    assert load(system=system) == Settings()


def test_a_key_that_counts_for_nothing_any_more_is_named_and_is_no_mistake(
    ostiary: Ostiary, tmp_path: Path
) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text("[challenge]\ndigits = 12\n[audio.microphone]\nretry_s = 1.0\n")
    ran = ostiary("config", "check", file)
    assert ran.code == 0
    assert "`challenge` counts for nothing: phrases are as the rules say" in ran.out
    assert "`audio.microphone.retry_s` counts for nothing" in ran.out
