"""A site's scores beside those at calibration."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sync.dashboard.cli import dashboard
from sync.dashboard.errors import DashboardError
from sync.dashboard.insight import calibration, counted, figures
from tests.sync.dashboard.conftest import Hospital


def detection(middle: float, targets: int = 100) -> dict[str, Any]:
    edges = [middle - 2 + number / 4 for number in range(17)]
    shape = [0.0] * 16
    shape[8] = 1.0
    return {"targets": targets, "histogram": {"edges": edges, "targets": shape, "nontargets": shape[::-1]}}


def report(**changes: Any) -> dict[str, Any]:
    made = {
        "schema": "ostiary.evaluation/1",
        "provenance": {"files": 3, "speakers": 2, "made_at": "2026-11-29"},
        "speaker": [{"model": "float", "views": {}}, {"model": "int8", "views": {"all": detection(-9.0)}}],
        "spoof": {"pooled": detection(2.0)},
        "phrase": {"views": {"few": detection(0.0, 3), "all": detection(4.0)}},
    }
    return {**made, **changes}


def test_a_report_is_brought_in_and_doors_that_lie_elsewhere_are_named(
    hospital: Hospital, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report()))
    command = ["calibration", str(file), "--database", f"sqlite:///{hospital.folder}/registry.db"]
    done = CliRunner().invoke(dashboard, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "3 checks" in done.output
    counted.count(hospital.store, dt.UTC, hospital.now_ms())
    with hospital.client("admin") as client:
        shown = client.get("/health-of-units").text
    assert "3 recordings of 2 people" in shown
    assert "away from the calibration" in shown
    assert "shape calibrated" in shown
    voice_lies_elsewhere = shown.partition("Doors whose scores lie elsewhere")[2]
    assert "Voice" in voice_lies_elsewhere  # calibrated at -9, and nobody was ever let in there


def test_distances_are_those_of_the_cumulative_shares() -> None:
    assert calibration.distance([1, 0, 0], [0, 0, 5]) == 1.0
    assert calibration.distance([2, 2], [1, 1]) == 0.0
    assert calibration.distance([1, 1], [0, 4]) == 0.5
    assert calibration.distance([0, 0], [1, 1]) is None


def test_shares_are_spread_over_our_bins_and_none_is_lost() -> None:
    wide = calibration.binned([-50.0, 50.0], [1.0])
    assert sum(wide) == pytest.approx(calibration.SCALE, rel=0.01)
    assert wide[0] > wide[1]
    middle = calibration.binned([figures.LOW, figures.HIGH], [1.0])
    assert set(middle) == {calibration.SCALE // figures.BINS}
    assert calibration.binned([1.0, 1.0], [1.0])[22] == calibration.SCALE


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", json.dumps({"schema": "other"}), json.dumps(report(provenance={})),
        json.dumps(report(spoof={"pooled": {"histogram": {"edges": [2, 1]}}})),
        json.dumps(report(speaker=[], spoof=None, phrase=None)), "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_report_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(DashboardError, match=r"report\.json"):
        calibration.read_report(file)
