"""Votes of windows made by hand: who is found in which frames."""

from __future__ import annotations

import numpy as np

from device.conversation.hearing import Piece, Window
from device.conversation.voting import NOBODY, held, tidied, vote
from device.models.segmentation import FRAME_S, SETS, WINDOW_FRAMES, Sets


def sets(*spans: tuple[int, int, tuple[int, ...], float]) -> Sets:
    """Probability of sets of voices from one frame to another; silence is as likely as the rest."""
    found = np.zeros((WINDOW_FRAMES, len(SETS)), np.float32)
    for begin, end, voices, likely in spans:
        found[begin:end, SETS.index(voices)] = likely
    found[:, 0] = 1.0 - found[:, 1:].sum(axis=1)
    return found


def piece(voice: int, begin: int, end: int) -> Piece:
    return Piece(voice, begin, end, (end - begin) * FRAME_S, None)


def test_speech_lasts_while_it_is_likely_once_it_was_sure() -> None:
    likely = np.array([0.0, 0.45, 0.7, 0.45, 0.0, 0.45, 0.45, 0.0])
    assert held(likely, 0.6, 0.4).tolist() == [False, True, True, True, False, False, False, False]


def test_what_no_window_is_sure_of_is_nobodys() -> None:
    doubtful = Window(0, sets((100, 300, (0,), 0.5)), (piece(0, 100, 300),))
    assert not vote([doubtful], [[0]], 1).any()


def test_soft_ends_of_a_voice_outside_its_piece_are_its_persons() -> None:
    window = Window(
        0, sets((80, 100, (0,), 0.45), (100, 300, (0,), 0.9), (300, 320, (0,), 0.45)), (piece(0, 100, 300),)
    )
    active = vote([window], [[0]], 1)[:, 0]
    assert np.flatnonzero(active)[[0, -1]].tolist() == [80, 319]


def test_two_people_speak_where_windows_together_say_so() -> None:
    both = sets((100, 250, (0,), 0.95), (250, 300, (0, 1), 0.5), (300, 450, (1,), 0.95))
    both[250:300, SETS.index((0,))], both[250:300, 0] = 0.45, 0.05
    heard = Window(0, both, (piece(0, 100, 300), piece(1, 250, 450)))
    active = vote([heard], [[1, 0]], 2)
    assert (active[260:290].sum(axis=1) == 2).all()
    assert active[110:240].tolist() == [[False, True]] * 130
    assert active[310:440].tolist() == [[True, False]] * 130


def test_a_window_counts_less_where_it_begins_and_ends() -> None:
    frames = WINDOW_FRAMES
    first = Window(0, sets((0, frames, (0,), 0.95)), (piece(0, 0, frames),))
    late = Window(frames - 20, sets((0, 20, (0,), 0.95)), (piece(0, 0, 20),))
    active = vote([first, late], [[0], [1]], 2)
    assert active[: frames - 20, 0].all()
    assert not active[: frames - 40, 1].any()


def test_a_voice_of_nobody_is_theirs_who_speak_there_in_other_windows() -> None:
    known = Window(0, sets((100, 300, (0,), 0.9)), (piece(0, 100, 300),))
    unknown = Window(0, sets((150, 170, (2,), 0.9)), (piece(2, 150, 170),))
    assert vote([known, unknown], [[1], [NOBODY]], 2)[150:170, 1].all()


def test_short_pauses_and_turns_are_no_pauses_and_turns() -> None:
    active = np.zeros((200, 1), bool)
    active[20:60] = active[70:100] = active[150:153] = True
    assert np.flatnonzero(tidied(active)[:, 0]).tolist() == list(range(20, 100))
