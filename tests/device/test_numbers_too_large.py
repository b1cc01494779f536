"""A number of four hundred digits in a file: JSON and TOML allow it, and no float holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device.access.rules import RulesError, parse_rules
from device.audio.card.level import LevelState, kept
from device.model_store.answers import Answers
from device.model_store.manifest import BundleError, Manifest
from device.model_store.pick import Pick
from device.models.second_words_answers import SecondAnswers
from device.models.segmentation_answers import SegmentationAnswers
from device.settings import SettingsError, load
from sync.dashboard.errors import DashboardError
from sync.dashboard.insight.calibration import read_report

HUGE = 10**400
ENTRY = {
    "role": "words", "name": "words.onnx", "sha256": "0" * 64, "size_bytes": 1, "version": "1", "task": "",
    "licence": "", "inputs": [], "outputs": [],
}  # fmt: skip
WORD = {"recording": "a.wav", "phrase": "one", "llr": 1.0}
ANSWERS: dict[str, Any] = {
    "format": 1, "reference": "", "files": {}, "recordings": {"a.wav": "0" * 64}, "words": [WORD],
    "voice": [{"enrolled": ["a.wav"], "recording": "a.wav", "llr": 1.0}],
    "live": [{"recording": "a.wav", "llrs": {"llr": 1.0}}],
}  # fmt: skip
DECODERS: list[tuple[Callable[[bytes], object], dict[str, Any]]] = [
    (
        Manifest.from_bytes,
        {
            "format": 1,
            "version": 1,
            "minimum_device": "0.1.0",
            "files": [{**ENTRY, "calibration": {"scale": HUGE, "offset": 0.0}}],
        },
    ),
    (
        Pick.from_bytes,
        {"machine": "", "bundle": "", "runtimes": {}, "timings": {"words": {"tflite/1": [HUGE, 1, 1, 1]}}},
    ),
    (Answers.from_bytes, {**ANSWERS, "tolerance": {"words": HUGE, "voice": 1.0, "live": 1.0}}),
    (SecondAnswers.from_bytes, {**ANSWERS, "tolerance": HUGE}),
    (
        SegmentationAnswers.from_bytes,
        {
            "format": 1,
            "file": "",
            "recording": {"name": "a.wav", "sha256": ""},
            "means": [HUGE] * 7,
            "tolerance": 0.1,
        },
    ),
]


@pytest.mark.parametrize(("decode", "document"), DECODERS)
def test_a_document_of_a_bundle_is_refused(
    decode: Callable[[bytes], object], document: dict[str, Any]
) -> None:
    with pytest.raises(BundleError, match="damaged"):
        decode(json.dumps(document).encode())


@pytest.mark.parametrize("damage", [f'{{"speech_dbfs": -40, "gain_db": {HUGE}}}', "[" * 4_000])
def test_a_level_of_the_microphone_is_learned_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "input-level.json"
    path.write_text(damage)
    assert kept(path) == LevelState()


@pytest.mark.parametrize("number", [HUGE, -HUGE], ids=["large", "small"])
def test_rules_are_refused_and_a_smaller_number_by_its_name(number: int) -> None:
    with pytest.raises(RulesError, match="a whole number of more than 64 bits"):
        parse_rules(f"version = 1\n[risks.drugs]\nidentify_margin_llr = {number}\n")
    with pytest.raises(RulesError, match=r"risks\.drugs\.identify_margin_llr must be from 0 to 12"):
        parse_rules(f"version = 1\n[risks.drugs]\nidentify_margin_llr = {2**62}\n")


def test_settings_are_refused_and_a_smaller_number_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "ostiary.toml"
    path.write_text(f"[audio.endpointer]\nwindow_s = {HUGE}\n")
    with pytest.raises(SettingsError, match="a whole number of more than 64 bits"):
        load(path)
    path.write_text(f"[audio.endpointer]\nwindow_s = {2**62}\n")
    with pytest.raises(SettingsError, match=r"`audio\.endpointer\.window_s` must be between"):
        load(path)


def test_a_report_for_the_dashboard_is_refused(tmp_path: Path) -> None:
    shape = {"edges": [0.0, HUGE], "targets": [1.0], "nontargets": [1.0]}
    phrase = {"views": {"all": {"targets": 1, "histogram": shape}}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": "ostiary.evaluation/1", "phrase": phrase}))
    with pytest.raises(DashboardError, match="OverflowError"):
        read_report(path)
