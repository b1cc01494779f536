from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.conversation.turns import Turn, TurnsError, from_rttm, overlaps, to_rttm, turns_of


def test_frames_become_turns_in_order() -> None:
    active = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]], dtype=bool)
    assert turns_of(active, 0.5, ["a", "b"]) == [
        Turn(0.0, 1.0, "a"),
        Turn(0.5, 1.5, "b"),
        Turn(2.0, 2.5, "a"),
    ]


def test_overlap_is_where_two_speak_and_not_where_one_takes_over() -> None:
    turns = [Turn(0.0, 2.0, "a"), Turn(1.0, 3.0, "b"), Turn(1.5, 2.5, "c"), Turn(3.0, 4.0, "a")]
    assert overlaps(turns) == [(1.0, 2.5)]


def test_turns_come_back_from_rttm() -> None:
    turns = [Turn(0.25, 1.5, "Dr. Who"), Turn(1.0, 2.0, "b")]
    text = to_rttm(turns, "a meeting")
    assert text.startswith("SPEAKER a_meeting 1 0.250 1.250 <NA> <NA> Dr._Who <NA> <NA>\n")
    assert from_rttm(text) == [Turn(0.25, 1.5, "Dr._Who"), Turn(1.0, 2.0, "b")]


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER a 1 x 1 <NA> <NA> b <NA> <NA>",
        "SPEAKER a 1 1 -1 <NA> <NA> b <NA> <NA>",
        "SPEAKER a 1 nan 1 <NA> <NA> b <NA> <NA>",
        "SPEAKER a 1 0 inf <NA> <NA> b <NA> <NA>",
        "SPEAKER a 1 0",
        "SPEAKER a 1 0 1 <NA> <NA> " + 65 * "b",
    ],
)
def test_a_line_that_is_no_turn_is_named(line: str) -> None:
    with pytest.raises(TurnsError, match="line 2 is no turn"):
        from_rttm("; a comment\n" + line)


@given(st.text())
def test_any_text_is_turns_or_refused(text: str) -> None:
    with contextlib.suppress(TurnsError):
        from_rttm(text)
