"""What set-up built: small enough, complete, and byte for byte what was proven."""

from __future__ import annotations

import pytest

from device.model_store import pick, slots
from device.model_store.bundle import Bundle
from device.settings import models_dir
from quantize.parity import FLIPS_LIMIT, MAX_FLIPS_LIMIT
from quantize.release.catalogue import RECIPES
from quantize.release.prove import PROOF_FOLDER, Report
from quantize.release.proven import read_proven

MAX_DEFAULT_BYTES = 60_000_000
DEFAULT = [recipe.role for recipe in RECIPES if not recipe.optional]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return slots.active(models_dir())


def test_the_default_models_are_there_and_together_small(bundle: Bundle) -> None:
    assert sum(bundle.manifest.entry(role).size_bytes for role in DEFAULT) <= MAX_DEFAULT_BYTES


def test_every_default_file_has_the_bytes_that_the_repository_states(bundle: Bundle) -> None:
    proven = read_proven()
    for role in DEFAULT:
        assert bundle.manifest.entry(role).sha256 == proven[role].sha256, role


def test_every_network_was_proven_on_enough_decisions_and_a_report_says_on_which_machine() -> None:
    proven, reports = read_proven(), [Report.from_bytes(p.read_bytes()) for p in PROOF_FOLDER.glob("*.json")]
    assert reports
    for role in ("speaker", "speaker-tflite", "words", "spoof-tflite"):
        for metrics in (proven[role].metrics, *(one.files[role].metrics for one in reports)):
            assert metrics[FLIPS_LIMIT] <= MAX_FLIPS_LIMIT, role
            assert metrics["parity_pairs"] >= 1_000, role
    for report in reports:
        assert report.machine
        assert {role: one.sha256 for role, one in report.files.items() if role in DEFAULT} == {
            role: proven[role].sha256 for role in DEFAULT
        }


def test_every_model_that_a_unit_may_choose_is_pinned_but_those_whose_proof_fails() -> None:
    failing = {"words-ggml-q5-1", "words-ggml-base-q5-1"}
    assert set(read_proven()) == {recipe.role for recipe in RECIPES} - failing


def test_both_networks_that_may_run_in_tflite_have_their_own_twin(bundle: Bundle) -> None:
    for role in ("speaker", "spoof"):
        assert pick.tflite_variant(bundle, role).is_file()
