from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import device.access.rules
from device.access.rules import load_rules
from quantize.evaluate.checks.attempts import (
    NEAR_OPENED,
    OPENED,
    OPENED_AT_ONCE,
    STEP_UP_MARGIN_LLR,
    attempts,
)
from quantize.evaluate.checks.phrase import PhraseScores, evaluate_phrase, views_of
from quantize.evaluate.checks.spoof import TandemScores, evaluate_spoof, evaluate_tandem
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import phrase_trials


def recording(path: str, label: str, system: str = "", speaker: str = "", text: str = "") -> Recording:
    return Recording(path, label, speaker, system, text, "", "")


@pytest.fixture
def page() -> list[Recording]:
    bona_fide = [recording(f"real/{i}.flac", "bonafide", speaker=f"s{i % 4}") for i in range(20)]
    own = [recording(f"demo/b{i}.flac", "bonafide") for i in range(6)]
    easy = [recording(f"demo/e{i}.flac", "spoof", "easy") for i in range(8)]
    hard = [recording(f"demo/h{i}.flac", "spoof", "hard") for i in range(4)]
    return bona_fide + own + easy + hard


def scored(page: list[Recording]) -> dict[str, float]:
    level = {"easy": -5.0, "hard": 2.0, "": 1.0}
    return {r.path: level[r.system] + 0.01 * i for i, r in enumerate(page)}


def test_each_attack_faces_the_whole_pool_and_the_worst_is_named(page: list[Recording]) -> None:
    result = evaluate_spoof("detector", page, scored(page), 0.0, replicates=20)
    assert result.attacks["easy"].figures["eer"].value == 0.0
    assert result.attacks["hard"].figures["eer"].value == pytest.approx(1.0)
    assert result.attacks["easy"].targets == 26
    assert result.attacks["hard"].figures["far"].value == 1.0
    assert (result.worst_attack_by_eer, result.worst_attack_by_apcer) == ("hard", "hard")
    assert result.pooled.figures["far"].value == pytest.approx(4 / 12)
    assert result.pooled.figures["frr"].value == 0.0


def test_a_page_also_faces_its_own_bona_fide_speech(page: list[Recording]) -> None:
    result = evaluate_spoof("detector", page, scored(page), 0.0, replicates=0)
    assert result.folders["demo"].targets == 26
    assert result.within_folders["demo"].targets == 6
    assert result.bona_fide_rejected == {"demo": 0.0, "real": 0.0}


def test_a_file_that_was_not_scored_is_not_counted(page: list[Recording]) -> None:
    llrs = scored(page)
    del llrs["demo/h0.flac"]
    assert evaluate_spoof("detector", page, llrs, 0.0, replicates=0).attacks["hard"].nontargets == 3


def test_a_perfect_liveness_check_makes_clones_free_of_cost() -> None:
    voices = np.array([[8.0, 8.0]] * 50)
    impostors = np.array([[-8.0, 8.0]] * 50)
    clones = np.array([[8.0, -8.0]] * 50)
    found = evaluate_tandem(TandemScores(voices, impostors, clones), 3.0, 0.0)
    assert found.door_a_dcf == found.min_a_dcf == found.act_a_dcf == 0.0
    assert (found.refused_genuine, found.accepted_impostors, found.accepted_clones) == (0.0, 0.0, 0.0)
    assert found.speaker_only_min_a_dcf > 0.8


def test_a_blind_liveness_check_lets_every_clone_in() -> None:
    sides = [np.array([[voice, 1.0]] * 10) for voice in (8.0, -8.0, 8.0)]
    found = evaluate_tandem(TandemScores(*sides), 3.0, 0.0)
    assert found.accepted_clones == 1.0
    assert found.door_a_dcf == pytest.approx(0.5 / 0.595)


def test_right_and_wrong_phrases_are_counted_at_the_deployed_threshold() -> None:
    spoken = [recording(f"a/{i}.flac", "bonafide", speaker=f"s{i}", text=f"WORD{i}") for i in range(4)]
    trials = phrase_trials(spoken)
    scores = {
        trial.recording.path: PhraseScores(right, wrong, "")
        for trial, right, wrong in zip(trials, [5.0, 4.0, 1.0, 6.0], [-3.0, 2.5, -4.0, -5.0], strict=True)
    }
    result = evaluate_phrase("words", trials, scores, 2.0, replicates=10)
    assert result.right_phrase_accepted == {"all": 0.75, "a": 0.75}
    assert result.wrong_phrase_accepted == {"all": 0.25, "a": 0.25}
    assert result.views["a"] is result.views["all"]


def test_near_misses_and_further_pairings_are_counted_one_by_one() -> None:
    spoken = [recording(f"a/{i}.flac", "bonafide", speaker=f"s{i}", text=f"WORD {i}") for i in range(4)]
    trials = phrase_trials(spoken)
    scores = {
        trial.recording.path: PhraseScores(9.0, -9.0, "", (2.0, 1.9), (-9.0, 3.0 if at == 0 else 1.0))
        for at, trial in enumerate(trials)
    }
    result = evaluate_phrase("words", trials, scores, 2.0, replicates=10)
    assert (result.near_misses["a"].accepted, result.near_misses["a"].trials) == (4, 8)
    assert (result.pairings["all"].accepted, result.pairings["all"].trials) == (1, 12)


def two_each(*said: tuple[float, float]) -> tuple[list[Recording], dict[str, PhraseScores]]:
    """Two recordings of each speaker: of each its LLR for the right phrase and for a near miss."""
    spoken = [
        recording(f"a/{i}.flac", "bonafide", speaker=f"s{i // 2}", text=f"WORD {i}") for i in range(len(said))
    ]
    scores = {
        one.path: PhraseScores(right, -9.0, "", (near,))
        for one, (right, near) in zip(spoken, said, strict=True)
    }
    return spoken, scores


def test_a_weak_phrase_and_one_more_make_an_attempt_and_their_words_add_up() -> None:
    # s0 opens with one order only when both count; s1's first speaks against him, so nothing is asked again
    spoken, scores = two_each((1.25, -9.0), (0.75, 1.0), (-0.5, 0.5), (2.0, 1.5))
    trials = phrase_trials(spoken)
    found = attempts(views_of(trials, scores), scores, 2.0)
    assert (found[OPENED_AT_ONCE]["a"].accepted, found[OPENED_AT_ONCE]["a"].trials) == (1, 4)
    assert (found[OPENED]["a"].accepted, found[OPENED]["a"].trials) == (3, 4)
    assert (found[NEAR_OPENED]["all"].accepted, found[NEAR_OPENED]["all"].trials) == (2, 4)


def test_somebody_with_one_recording_makes_no_attempt_of_two() -> None:
    spoken = [recording(f"a/{i}.flac", "bonafide", speaker=f"s{i}", text=f"WORD {i}") for i in range(3)]
    scores = {one.path: PhraseScores(9.0, -9.0, "", (0.0,)) for one in spoken}
    assert attempts(views_of(phrase_trials(spoken), scores), scores, 2.0) == {}


def test_attempts_are_counted_with_the_margin_of_the_example_rules() -> None:
    example = load_rules(Path(device.access.rules.__file__).with_name("example.toml"))
    assert example.risks["standard"].thresholds.step_up_margin_llr == STEP_UP_MARGIN_LLR
