from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from device.audio import EndpointerSettings, QualityLimits
from device.audio.settings import FileLimits, MicrophoneSettings
from device.settings import Settings, SettingsError, load

ALL = {
    "endpointer": EndpointerSettings,
    "quality": QualityLimits,
    "file": FileLimits,
    "microphone": MicrophoneSettings,
}
WITH = {
    "onset_ms": "onset_window_ms = 1000",
    "onset_window_ms": "onset_ms = 20",
    "pause_ms": "end_ms = 1000",
    "end_ms": "pause_ms = 40",
    "hesitation_ms": "pause_ms = 40\nend_ms = 100",
    "window_s": "max_speech_s = 30.0",
    "max_speech_s": "window_s = 2.0",
}
"""What must be set with an extreme value so that the two do not contradict each other."""
Written = Callable[[str], Settings]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """The settings in a file with this text."""

    def load_text(text: str) -> Settings:
        path = tmp_path / "ostiary.toml"
        path.write_text(text, "utf-8")
        return load(path)

    return load_text


def test_the_defaults_are_within_their_limits() -> None:
    for kind in ALL.values():
        for item in dataclasses.fields(kind):
            if "low" in item.metadata and item.default is not None:
                assert item.metadata["low"] <= item.default <= item.metadata["high"], item.name


@pytest.mark.parametrize(("table", "kind"), ALL.items())
def test_every_limit_is_enforced_on_both_sides(table: str, kind: type, written: Written) -> None:
    for item in dataclasses.fields(kind):
        if "low" in item.metadata:
            for outside in (item.metadata["low"] - 1, item.metadata["high"] + 1, "nan", '"3"', "true"):
                with pytest.raises(SettingsError, match=f"audio.{table}.{item.name}"):
                    written(f"[audio.{table}]\n{item.name} = {outside}\n")
            for inside in (item.metadata["low"], item.metadata["high"]):
                found = written(f"[audio.{table}]\n{item.name} = {inside}\n{WITH.get(item.name, '')}\n")
                assert getattr(getattr(found.audio, table), item.name) == inside


def test_all_faults_are_reported_at_once(written: Written) -> None:
    with pytest.raises(SettingsError, match=r"aggressiveness.*; .*end_ms"):
        written("[audio.endpointer]\naggressiveness = 9\nend_ms = 1\n")


@pytest.mark.parametrize(
    "pair",
    [
        {"onset_ms": 200, "onset_window_ms": 100},
        {"pause_ms": 500, "end_ms": 300},
        {"window_s": 20.0, "max_speech_s": 10.0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(pair: dict[str, float], written: Written) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in pair.items())
    with pytest.raises(SettingsError, match="must not exceed"):
        written(f"[audio.endpointer]\n{lines}\n")


def test_a_shorter_hesitation_than_the_usual_end_counts_as_that_end(written: Written) -> None:
    found = written("[audio.endpointer]\nend_ms = 2000\n").audio.endpointer
    assert found.hesitation_ms == 2_000
