"""The comparison of processors runs here, and it fails when scores, decisions or bytes differ."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from bench.processors import compare
from device.settings import models_dir
from tests.speech import readings


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """Twelve attempts on this machine, by the bundle that was built on it."""
    readings("librivox", "transcription")
    done = subprocess.run(
        [sys.executable, "-m", "bench.processors.decisions", "--models", str(models_dir())],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_right_words_of_the_enrolled_reader_pass_and_nothing_else_does(here: dict[str, Any]) -> None:
    passed = [
        all(score[check] >= compare.THRESHOLDS[check] for check in compare.CHECKS) for score in here["scores"]
    ]
    assert passed == [True, False, True, *[False] * 9]


def test_a_processor_that_agrees_is_reported_without_a_fault(here: dict[str, Any]) -> None:
    other = {**copy.deepcopy(here), "built": here["files"]}
    other["scores"][0]["words"] += 0.1
    found = {"here": here, "other": other}
    assert compare.faults(found) == []
    assert f"all {len(here['files'])} files equal" in compare.page(found)
    assert "0.100" in compare.page(found)


@pytest.mark.parametrize("fault", ["a score strays", "no number", "a decision", "other bytes"])
def test_a_processor_that_differs_is_named(here: dict[str, Any], fault: str) -> None:
    other = copy.deepcopy(here)
    if fault == "a score strays":
        other["scores"][4]["voice"] += 0.6
    elif fault == "no number":
        other["scores"][4]["voice"] = float("nan")
    elif fault == "a decision":
        other["scores"][0]["live"] = -0.1
    else:
        other["built"] = {**here["files"], "speaker": "0" * 64}
    faults = compare.faults({"here": here, "pi": other})
    assert faults
    assert all(line.startswith("pi: ") for line in faults)
