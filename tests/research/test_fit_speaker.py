from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.evaluate.checks.speaker import score_matrix
from quantize.evaluate.figures.calibrate import Linear, fits
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import SpeakerPlan, speaker_plan
from research.fits.speaker import CALIBRATION_FILE, as_norm, judge, rivals, split, write_calibration

BEFORE = """# kept
[bundle]
version = 3

[speaker]
scale = 1.0
offset = 0
origin = "old"

[words]
scale = 2.0
"""


@pytest.fixture
def plan() -> SpeakerPlan:
    return speaker_plan(
        [
            Recording(f"{folder}/{folder}{who}/{i}.flac", "bonafide", f"{folder}{who}", "", "", "", "")
            for folder in ("x", "y")
            for who in range(12)
            for i in range(6)
        ]
    )


@pytest.fixture
def embeddings(plan: SpeakerPlan) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    voices = {speaker: rng.normal(size=24) for speaker in plan.enrolments}
    found = {}
    for recording in plan.recordings():
        vector = voices[recording.speaker] + 0.9 * rng.normal(size=24)
        found[recording.path] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return found


def test_no_speaker_and_no_pair_of_corpora_is_on_both_sides(
    plan: SpeakerPlan, embeddings: dict[str, np.ndarray]
) -> None:
    matrix = score_matrix(plan, embeddings)
    halves = split(matrix, plan)
    assert not (halves.fitting & halves.judging).any()
    for row, column in np.argwhere(halves.fitting | halves.judging):
        enrolled, knocking = matrix.speakers[row], matrix.probes[column].speaker
        assert enrolled[0] == knocking[0]
        assert fits(enrolled) == fits(knocking) == bool(halves.fitting[row, column])


def test_every_rival_is_judged_on_the_same_split(
    plan: SpeakerPlan, embeddings: dict[str, np.ndarray]
) -> None:
    matrix = score_matrix(plan, embeddings)
    conditions = {r.path: (1.0 + i % 3, 10.0 + i % 7) for i, r in enumerate(plan.recordings())}
    cohort = list(embeddings.values())[:30]
    verdicts = rivals(matrix, plan, embeddings, conditions, cohort)
    plain, _ = judge("affine (kept)", matrix.scores, split(matrix, plan))
    assert verdicts[0] == plain
    assert len(verdicts) == 7
    assert all(verdict.min_cllr <= verdict.cllr for verdict in verdicts)
    assert all(verdict.line().count("|") == 10 for verdict in verdicts)


def test_only_the_speaker_section_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text(BEFORE)
    write_calibration(path, Linear(np.array([30.0]), -14.0), "new")
    found = tomllib.loads(path.read_text())
    assert found == {
        "bundle": {"version": 3},
        "speaker": {"scale": 30.0, "offset": -14.0, "origin": "new"},
        "words": {"scale": 2.0},
    }
    assert path.read_text().startswith("# kept\n")


def test_a_file_without_the_section_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text("[bundle]\nversion = 3\n")
    with pytest.raises(QuantizeError, match="no \\[speaker\\] section"):
        write_calibration(path, Linear(np.array([30.0]), -14.0), "new")
    assert path.read_text() == "[bundle]\nversion = 3\n"


def test_the_shipped_map_speaks_for_the_person_above_its_zero() -> None:
    speaker = tomllib.loads(CALIBRATION_FILE.read_text(encoding="utf-8"))["speaker"]
    assert speaker["scale"] > 0
    assert 0.3 < -speaker["offset"] / speaker["scale"] < 0.6
    assert "speakers" in speaker["origin"]


def test_normalisation_undoes_a_shift_and_a_stretch_of_either_side() -> None:
    rng = np.random.default_rng(1)
    raw, enrol, probe = rng.normal(size=(4, 5)), rng.normal(size=(4, 50)), rng.normal(size=(5, 50))
    plain = as_norm(raw, enrol, probe, top=50)
    assert np.allclose(as_norm(3 * raw + 2, 3 * enrol + 2, 3 * probe + 2, top=50), plain)
