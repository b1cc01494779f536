from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from quantize.evaluate.checks.phrase import PhraseResult
from quantize.evaluate.checks.speaker import SpeakerResult
from quantize.evaluate.checks.spoof import SpoofResult, TandemResult
from quantize.evaluate.figures.detection import Trials, measure
from quantize.evaluate.figures.intervals import Estimate
from quantize.evaluate.figures.metrics import Costs
from quantize.evaluate.report.page import render
from quantize.evaluate.report.result import Comparison, Provenance, Report

HOSTILE = '<script>alert("$x_1$")</script>'


@pytest.fixture(scope="module")
def report() -> Report:
    rng = np.random.default_rng(0)
    trials = Trials(
        rng.normal(4, 2, 60),
        rng.normal(-4, 2, 300),
        [(i % 9,) for i in range(60)],
        [(i % 9, 9 + i % 5) for i in range(300)],
    )
    found = measure(trials, Costs(0.05), threshold=1.0, replicates=20)
    views = {"all": found, "an4": found, "native": found, "accented": found, HOSTILE: found}
    attacks, one = {HOSTILE: found, "tts": found}, {HOSTILE: found}
    return Report(
        Provenance("2026-01-01 00:00 UTC", HOSTILE, "0" * 64, 9, 6, 3, 2, {"voice": HOSTILE}, "a machine"),
        [SpeakerResult("int8", True, 3.0, views), SpeakerResult("float", True, 3.0, views)],
        [
            Comparison("an4", "float", 0.011, 0.010, 0.0004),
            Comparison("an4", "resemblyzer", 0.011, 0.0, None),
        ],
        SpoofResult("spoof", 0.0, found, attacks, one, one, HOSTILE, "tts", {HOSTILE: 0.1}),
        TandemResult(1, 2, 3, 0.1, 0.2, 0.3, 0.4, 0.01, 0.02, 0.03),
        PhraseResult("words", 2.0, {"all": found}, {"all": 0.9}, {"all": 0.1}),
        {HOSTILE: HOSTILE},
        {HOSTILE: HOSTILE},
    )  # fmt: skip


def test_the_page_stands_alone(report: Report) -> None:
    page = render(report)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page.replace('xlink:href="#', 'xlink:href="#'))
    assert "default-src 'none'" in page
    assert page.count("<svg") >= 6


def test_names_from_a_manifest_are_text_and_never_markup(report: Report) -> None:
    page = render(report)
    assert "&lt;script&gt;alert" in page
    assert re.search(r"<script[ >]", page) is None


def test_the_page_says_who_bears_the_errors_and_what_quantisation_costs(report: Report) -> None:
    page = render(report)
    assert "Refusals of native and accented speakers differ by a factor of 1.00, within 1.5." in page
    assert "+0.10" in page
    assert "0.040%" in page


def test_a_gap_between_groups_is_called_a_finding(report: Report) -> None:
    from quantize.evaluate.report.chapters import gap

    apart = gap("native", Estimate(0.01, 0.005, 0.015), "accented", Estimate(0.05, 0.03, 0.07))
    assert "Finding" in apart
    assert "accented speakers are refused more often, by a factor of 5.0" in apart
    assert "overlap" not in apart
    assert "overlap" in gap("native", Estimate(0.01, 0.0, 0.04), "accented", Estimate(0.05, 0.03, 0.07))
    assert "nobody is refused" in gap("female", Estimate(0.0, 0.0, 0.0), "male", Estimate(0.0, 0.0, 0.0))


def test_the_json_is_strict_and_opens_with_the_figures_most_readers_want(report: Report) -> None:
    document = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["schema"] == "ostiary.evaluation/1"
    assert list(document)[1] == "summary"
    assert document["summary"]["spoof_eer"]["worst"]["system"] == HOSTILE
    assert document["summary"]["right_phrase_accepted"] == {"all": 0.9}
    figure = document["speaker"][0]["views"]["an4"]["figures"]["eer"]
    assert figure["low"] <= figure["value"] <= figure["high"]


def test_an_infinite_threshold_becomes_null() -> None:
    trials = Trials(np.array([0.0]), np.array([1.0]), [("a",)], [("a", "b")])
    found = measure(trials, Costs(0.05), replicates=0)
    assert math.isinf(found.eer_threshold) or found.eer_threshold == 1.0
    empty = Provenance("", "", "", 0, 0, 0, 0, {}, "")
    text = Report(empty, [SpeakerResult("int8", True, math.inf, {"all": found})]).to_json()
    assert json.loads(text)["speaker"][0]["threshold_llr"] is None
