"""Which vector of a voiceprint counts where: the door vector in a lively room, as enrolled elsewhere."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from device.audio import Quality, Utterance
from device.evidence.gallery import Galleries, Gallery
from device.evidence.judge import Judge
from device.evidence.voice import at_the_door, in_noise
from device.evidence.voice.at_the_door import DOOR_LLR, LIVELY_DB_S
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, NOISY_SNR_DB
from device.model_store.calibration import LLR_LIMIT
from tests.device.evidence.test_judge import Steady
from tests.kept import is_overwritten

Vector = npt.NDArray[np.float32]
AXES = np.eye(192, dtype=np.float32)
DESK, DOOR, OTHER, PROBE = AXES[0], AXES[1], AXES[2], (AXES[0] + 3 * AXES[1]) / np.float32(math.sqrt(10))
BOTH = Voice(DESK, FITTED_ON, door=DOOR)


class Cosine(Steady):
    """A speaker model whose LLR is ten times the cosine."""

    version = FITTED_ON

    def embed(self, wave: Vector) -> Vector:
        return PROBE.copy()

    def llr(self, probe: Vector, template: Vector) -> float:
        return 10.0 * float(probe @ template)


class Another(Cosine):
    version = "resemblyzer-0.1.4"


def quality(snr_db: float = 40.0, decay_db_s: float = 250.0) -> Quality:
    return Quality(1.5, snr_db, 0.0, -25.0, 8_000.0, decay_db_s)


QUIET = quality()
LIVELY = [quality(decay_db_s=LIVELY_DB_S - 1), quality(NOISY_SNR_DB, 60.0)]
AS_BEFORE = [QUIET, quality(NOISY_SNR_DB, LIVELY_DB_S), quality(NOISY_SNR_DB - 1), quality(10.0, 60.0)]
UNKNOWN = quality(math.nan, math.nan)


@pytest.mark.parametrize("place", [*AS_BEFORE, UNKNOWN])
def test_where_it_is_dry_or_noisy_the_vector_as_enrolled_counts_as_before(place: Quality) -> None:
    found = at_the_door.llr(Cosine(), place, PROBE, BOTH)
    assert found == in_noise.llr(Cosine(), place, PROBE, DESK)


@pytest.mark.parametrize("place", LIVELY)
def test_in_a_lively_room_the_door_vector_counts_by_its_own_calibration(place: Quality) -> None:
    found = at_the_door.llr(Cosine(), place, PROBE, BOTH)
    assert found == pytest.approx(30 / math.sqrt(10) + DOOR_LLR)


@pytest.mark.parametrize("place", [*AS_BEFORE, *LIVELY])
def test_a_voiceprint_without_a_door_vector_scores_as_before(place: Quality) -> None:
    found = at_the_door.llr(Cosine(), place, PROBE, Voice(DESK, FITTED_ON))
    assert found == in_noise.llr(Cosine(), place, PROBE, DESK)


@pytest.mark.parametrize("place", [*AS_BEFORE, *LIVELY])
def test_another_speaker_model_has_no_calibration_for_a_door_vector(place: Quality) -> None:
    assert at_the_door.llr(Another(), place, PROBE, BOTH) == Another().llr(PROBE, DESK)


def test_no_llr_gets_beyond_its_limit_and_what_is_not_a_number_stays_none() -> None:
    class Says(Cosine):
        def __init__(self, found: float) -> None:
            super().__init__()
            self.found = found

        def llr(self, probe: Vector, template: Vector) -> float:
            return self.found

    place = LIVELY[0]
    for found in (1e9, -1e9):
        assert abs(at_the_door.llr(Says(found), place, PROBE, BOTH)) == LLR_LIMIT
    assert math.isnan(at_the_door.llr(Says(math.nan), place, PROBE, BOTH))


@pytest.mark.parametrize("place", LIVELY)
def test_a_gallery_holds_each_person_against_the_vector_that_a_claim_would(place: Quality) -> None:
    speaker, vectors = Cosine(), {"ANNA": DESK, "BRUNO": OTHER, "CARLA": DESK}
    doors = {"ANNA": OTHER, "BRUNO": DOOR}
    compared = at_the_door.compared(speaker, place)
    gallery = Gallery(vectors, doors)
    by_claim = {
        uid: at_the_door.llr(speaker, place, PROBE, Voice(vector, FITTED_ON, door=doors.get(uid)))
        for uid, vector in vectors.items()
    }
    found = gallery.identify(PROBE, *compared)
    best, runner_up = sorted(by_claim, key=lambda uid: -by_claim[uid])[:2]
    assert (best, runner_up) == ("BRUNO", "CARLA")
    assert found is not None
    assert (found.uid, found.llr, found.runner_up_llr, found.among) == (
        best,
        by_claim[best],
        by_claim[runner_up],
        3,
    )
    both = Galleries({FITTED_ON: gallery, "next": Gallery({})})
    assert both.identify({FITTED_ON: (PROBE, *compared)}) == found
    gallery.wipe()
    assert is_overwritten(gallery)


def test_at_a_desk_a_gallery_is_searched_as_before() -> None:
    found = Gallery({"ANNA": DESK, "BRUNO": OTHER}, {"BRUNO": DOOR}).identify(
        PROBE, *at_the_door.compared(Cosine(), QUIET)
    )
    assert found is not None
    assert (found.uid, found.runner_up_llr) == ("ANNA", 0.0)


def test_a_judge_holds_a_claimed_voice_against_its_door_vector() -> None:
    samples = (np.random.default_rng(5).standard_normal(48_000) * 800).astype(np.int16)
    said = Utterance(samples, 0.75, 3.0, LIVELY[0])
    judge = Judge(Steady(), Cosine(), Steady())
    with_door = judge(said, "one", Voice(DESK, FITTED_ON, door=DOOR)).speaker_llr
    without = judge(said, "one", Voice(DESK, FITTED_ON)).speaker_llr
    assert with_door == pytest.approx(30 / math.sqrt(10) + DOOR_LLR)
    assert without == pytest.approx(10 / math.sqrt(10))
    found = judge(said, "one", Gallery({"ANNA": DESK}, {"ANNA": DOOR})).speaker_llr
    assert found == with_door
