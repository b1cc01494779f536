"""Where the state folder is, for a user with a home folder, and for one without."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.settings import SettingsError, state_dir


def test_a_tilde_is_the_home_folder_and_no_folder_of_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OSTIARY_STATE_DIR", "~/x")
    assert state_dir() == tmp_path / "x"


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", "~nobody-has-this-name/x")
    with pytest.raises(SettingsError, match="OSTIARY_STATE_DIR"):
        state_dir()
