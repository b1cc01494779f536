"""Whose voice a group is, on directions made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from device.conversation.grouping import APART
from device.conversation.naming import USUAL_LIKENESS, Known, kept_apart
from device.models.speaker import Embedding
from tests.device.conversation.test_grouping import people

VOICES = people(*[1] * 21, seed=4)[0]


def llr(cosine: float) -> float:
    return 30.0 * cosine - 14.0


def gallery(people_in_it: int) -> Known:
    return Known({str(number): VOICES[number] for number in range(people_in_it)}, llr)


def heard(person: int, room: float, share: float) -> Embedding:
    """A voice in a room that makes everybody in `gallery(20)` more alike by about `room`."""
    common = VOICES[:20].sum(axis=0)
    common /= np.linalg.norm(common)
    found = share * VOICES[person] + room / float(np.mean(VOICES[:20] @ common)) * common
    return np.asarray(found, np.float32)


def test_a_person_is_named_and_a_stranger_is_not() -> None:
    assert gallery(20).whose(VOICES[3]) == "3"
    assert gallery(20).whose(VOICES[20]) == ""
    assert Known({}, llr).whose(VOICES[3]) == ""


def test_what_a_group_has_in_common_with_everybody_names_nobody() -> None:
    stranger = heard(20, room=0.5, share=0.0)
    cosines = VOICES[:20] @ stranger
    assert llr(float(cosines.max())) > gallery(20).bar_llr
    assert gallery(20).whose(stranger) == ""


def test_a_person_whom_a_room_makes_unlike_everybody_is_named_all_the_same() -> None:
    person = heard(3, room=-0.1, share=0.55)
    assert llr(float(VOICES[3] @ person)) < gallery(20).bar_llr
    assert gallery(20).whose(person) == "3"


def test_alone_in_a_gallery_a_person_is_judged_by_the_cosine() -> None:
    assert gallery(1).llrs(VOICES[0])["0"] == pytest.approx(llr(1.0))
    two = gallery(2).llrs(VOICES[0])["0"]
    rest = float(VOICES[0] @ VOICES[1])
    assert two == pytest.approx(llr(1.0 - 1.0 / 6.0 * (rest - USUAL_LIKENESS)), abs=1e-3)


def test_pieces_of_one_name_are_together_and_those_of_two_apart() -> None:
    given = np.full((5, 5), 0.5, np.float32)
    found = kept_apart(given, np.array([0, 1, 2, 3, 3]), ["a", "a", "b", ""])
    assert found[0, 1] == 0.0
    assert found[0, 2] == found[1, 2] == APART
    assert (found[3:, :] == 0.5).all()
    assert (found == found.T).all()
