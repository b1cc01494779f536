"""Who speaks in each frame: the windows, which overlap, vote, each with the person of each of its pieces.

How many speak is the windows' mean; who they are is whose voices are likeliest there. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from device.conversation.hearing import Window
from device.conversation.turns import edges
from device.models.segmentation import FRAME_S, VOICES, several, somebody, speaking

NOBODY = -1
# Chosen on development speakers that no figure is reported on.
SPEECH, STILL_SPEECH = 0.6, 0.4
"""Speech reaches the first probability somewhere and lasts as long as the second holds."""
TOGETHER = 0.38
"""From this probability on two people speak at once."""
EDGE_SHARE = 0.1
"""Of a window at each end: a vote counts less there, where the network has not heard what is around it."""
SMOOTH_S = 0.5
"""Half of a vote is the mean over so much time around it: people do not change places by the frame."""
SHORTEST_PAUSE_S, SHORTEST_TURN_S = 0.45, 0.1
"""A shorter silence inside one person's speech ends no turn; a shorter turn is none."""
_LEAST = 1e-3
_NEAR_S = 30.0
"""How far from a piece of next to no sound its speaker is looked for."""

Flags = npt.NDArray[np.bool_]
Votes = npt.NDArray[np.float64]


def vote(heard: Sequence[Window], owners: Sequence[Sequence[int]], people: int) -> Flags:
    """Who speaks in each frame, (frames, people). `owners` has the person of each piece of each window. A
    voice of nobody goes to the person found there in other windows, else to the nearest in time."""
    frames = max(window.stop for window in heard)
    likely, weight = np.zeros((frames, people)), np.zeros(frames)
    speech, together = np.zeros(frames), np.zeros(frames)
    for window, owner in zip(heard, owners, strict=True):
        span, counts = slice(window.start, window.stop), _tapered(len(window.sets))
        weight[span] += counts
        speech[span] += counts * somebody(window.sets)
        together[span] += counts * several(window.sets)
        _add(likely, window, owner, counts)
    known = likely.copy()
    for window, owner in zip(heard, owners, strict=True):
        if NOBODY in owner:
            _add(likely, window, _found_near(known, window, owner), _tapered(len(window.sets)))
    weight = np.maximum(weight, 1e-9)
    talking = held(speech / weight, SPEECH, STILL_SPEECH)
    count = talking.astype(int) + (talking & (together / weight > TOGETHER))
    likely = 0.5 * (likely + _smooth(likely))
    order = np.argsort(-likely, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    return tidied((rank < count[:, None]) & (likely > _LEAST))


def held(likely: Votes, reached: float, held_at: float) -> Flags:
    """Stretches of (n,) above `held_at` that reach `reached` somewhere."""
    found = np.zeros(len(likely), bool)
    for begin, end in edges(likely > held_at):
        found[begin:end] = likely[begin:end].max() >= reached
    return found


def tidied(active: Flags) -> Flags:
    """(frames, people) without the shortest pauses inside a person's turn, then the shortest turns."""
    found = active.copy()
    for person in range(found.shape[1]):
        _flip_short(found[:, person], value=False, shorter_s=SHORTEST_PAUSE_S)
        _flip_short(found[:, person], value=True, shorter_s=SHORTEST_TURN_S)
    return found


def _flip_short(row: Flags, *, value: bool, shorter_s: float) -> None:
    for begin, end in edges(row == value):
        inside = begin > 0 and end < len(row)
        if (end - begin) * FRAME_S < shorter_s and (value or inside):
            row[begin:end] = not value


def _tapered(frames: int) -> Votes:
    at = np.arange(frames)
    return np.asarray(np.minimum(1.0, np.minimum(at + 1, frames - at) / max(1.0, EDGE_SHARE * frames)))


def _smooth(votes: Votes) -> Votes:
    """The mean over SMOOTH_S around each frame."""
    frames, half = len(votes), round(SMOOTH_S / FRAME_S) // 2
    total = np.concatenate((np.zeros((1, votes.shape[1])), np.cumsum(votes, axis=0)))
    first = np.maximum(0, np.arange(frames) - half)
    last = np.minimum(frames, np.arange(frames) + half + 1)
    return np.asarray((total[last] - total[first]) / (last - first)[:, None])


def _add(likely: Votes, window: Window, owner: Sequence[int], counts: Votes) -> None:
    """Add a window's votes: each frame of a voice is the person's of the nearest piece of that voice."""
    voices = speaking(window.sets)
    for voice in range(VOICES):
        mine = [
            (piece.begin, piece.end, person)
            for piece, person in zip(window.pieces, owner, strict=True)
            if piece.voice == voice and person != NOBODY
        ]
        if mine:
            begins, ends, people = np.array(mine).T
            at = np.arange(len(voices))
            away = np.maximum(0, np.maximum(begins[:, None] - at, at - (ends[:, None] - 1)))
            likely[window.start + at, people[away.argmin(axis=0)]] += counts * voices[:, voice]


def _found_near(likely: Votes, window: Window, owner: Sequence[int]) -> list[int]:
    """The person to whom each piece belongs whose voice is nobody's in this window; NOBODY for the others."""
    told = {piece.voice for piece, person in zip(window.pieces, owner, strict=True) if person != NOBODY}
    return [
        NOBODY
        if piece.voice in told
        else _nearest(likely, window.start + piece.begin, window.start + piece.end)
        for piece in window.pieces
    ]


def _nearest(likely: Votes, begin: int, end: int) -> int:
    there = likely[begin:end].sum(axis=0)
    if there.max() > 0.0:
        return int(there.argmax())
    reach = round(_NEAR_S / FRAME_S)
    first = max(0, begin - reach)
    around = likely[first : end + reach]
    distance = np.abs(np.arange(first, first + len(around)) - (begin + end) / 2.0)
    return int((around / (1.0 + distance)[:, None]).sum(axis=0).argmax())
