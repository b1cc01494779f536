"""Who spoke when in a recording: known voices first, groups for the rest, then everything once more.

First pass: pieces with enough speech of one voice are given to known people whom they fit, and the rest is
grouped by average linkage. Second pass: every piece of every window goes to the nearest voice of the first
pass, two voices of one window never to the same person. Then the windows, which overlap, vote frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device.conversation.grouping import Labels, Matrix, assigned, centres, cut, distances, linkage
from device.conversation.hearing import Window
from device.conversation.settings import Grouping
from device.conversation.turns import Turn, overlaps, turns_of
from device.models.segmentation import FRAME_S
from device.models.speaker import Embedding

MAX_SPEAKERS = 20
DEFAULT = Grouping()
_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """People who may be recognised: unit templates by name, and what a cosine of theirs means as LLR."""

    templates: Mapping[str, Embedding]
    llr: Callable[[float], float]
    at_least_llr: float = 3.0
    """For one person; raised by ln N for N people, as for every search among them."""

    @property
    def bar_llr(self) -> float:
        return self.at_least_llr + math.log(max(1, len(self.templates)))


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody of the recording; `llr` that it is the known person of this name, None for a stranger."""

    name: str
    seconds: float
    llr: float | None = None


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when. `fewest` to `most` people is what slightly other bars would have counted."""

    seconds: float
    turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    fewest: int = 0
    most: int = 0
    told: int | None = None
    """The number of people that the caller gave."""
    overlaps: tuple[tuple[float, float], ...] = field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class _Sure:
    """Pieces long enough to say whose voice they are: what the first pass works on."""

    embeddings: Matrix
    weights: npt.NDArray[np.float64]
    windows: npt.NDArray[np.intp]
    voices: npt.NDArray[np.intp]

    def __getitem__(self, chosen: npt.NDArray[np.intp]) -> _Sure:
        return _Sure(self.embeddings[chosen], self.weights[chosen], self.windows[chosen], self.voices[chosen])

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """What the first pass found: each person's name and centre, known people first."""

    names: tuple[str, ...]
    centres: Matrix
    fewest: int
    most: int


def diarize(
    heard: Sequence[Window],
    seconds: float,
    grouping: Grouping = DEFAULT,
    known: Known | None = None,
    speakers: int | None = None,
) -> Diarization:
    """Who spoke when in `seconds` of sound, of which `heard` are all windows.

    `speakers` fixes how many people there are, known ones included.
    """
    voices = first_pass(heard, grouping, known, speakers)
    if voices is None:
        return Diarization(seconds, told=speakers)
    owners = second_pass(heard, voices.centres)
    active = tidied(vote(heard, owners, len(voices.names)), grouping)
    spoken = active.sum(axis=0) * FRAME_S
    turns = turns_of(active, FRAME_S, voices.names)
    people = tuple(
        Speaker(name, round(float(spoken[at]), 3), _llr(known, name, voices.centres[at]))
        for at, name in enumerate(voices.names)
        if spoken[at] > 0.0
    )
    silent = len(voices.names) - len(people)
    count = len(people)
    return Diarization(
        seconds,
        tuple(turns),
        people,
        min(count, max(1, voices.fewest - silent)),
        max(count, voices.most - silent),
        speakers,
        tuple(overlaps(turns)),
    )


def first_pass(
    heard: Sequence[Window], grouping: Grouping, known: Known | None, speakers: int | None
) -> Voices | None:
    """The voices of a recording; None where nobody spoke for long enough."""
    sure = _sure(heard, grouping.sure_piece_s) or _sure(heard, 0.0)
    if sure is None:
        return None
    names, owner = _recognised(sure.embeddings, known)
    mine, rest = np.flatnonzero(owner != _NOBODY), np.flatnonzero(owner == _NOBODY)
    centre = centres(sure.embeddings[mine], sure.weights[mine], owner[mine], len(names))
    wanted = None if speakers is None else speakers - len(names)
    if len(rest) == 0 or (wanted is not None and wanted <= 0 and names):
        return Voices(names, centre, len(names), len(names))
    strangers = sure[rest]
    merges = linkage(distances(strangers.embeddings, strangers.windows, strangers.voices))
    everything = float(sure.weights.sum())

    def groups_at(bar: float) -> Labels:
        labels = cut(merges, len(rest), nearer_than=1.0 - bar)
        return _without_small(strangers, labels, grouping, everything)

    if wanted is not None:
        labels = cut(merges, len(rest), groups=min(max(1, wanted), len(rest)))
        fewest = most = groups = int(labels.max()) + 1
    else:
        labels = groups_at(grouping.same_voice)
        groups = int(labels.max()) + 1
        fewest = int(groups_at(grouping.same_voice - grouping.doubt).max()) + 1
        most = int(groups_at(grouping.same_voice + grouping.doubt).max()) + 1
    others = centres(strangers.embeddings, strangers.weights, labels, groups)
    return _met_again(names, centre, others, known, fewest, most)


def second_pass(heard: Sequence[Window], centre: Matrix) -> list[dict[int, int]]:
    """For each window, the person of each of its voices; one without an embedding is left out for now."""
    owners = []
    for window in heard:
        told = [piece for piece in window.pieces if piece.embedding is not None]
        stacked = [piece.embedding for piece in told if piece.embedding is not None]
        whose = assigned(np.stack(stacked) @ centre.T) if stacked else ()
        owners.append({piece.voice: int(person) for piece, person in zip(told, whose, strict=True)})
    return owners


def vote(heard: Sequence[Window], owners: Sequence[Mapping[int, int]], people: int) -> npt.NDArray[np.bool_]:
    """Who speaks in each frame, (frames, people): as many as the windows count, those they find likeliest.

    A voice too short for an embedding goes to whoever the other windows find speaking there, and else to
    who was speaking nearest in time.
    """
    frames = max(window.stop for window in heard)
    likely, count, seen = np.zeros((frames, people)), np.zeros(frames), np.zeros(frames)
    for window, owner in zip(heard, owners, strict=True):
        span = slice(window.start, window.stop)
        seen[span] += 1
        count[span] += window.active.sum(axis=1)
        for voice, person in owner.items():
            likely[span, person] += window.likely[:, voice]
    for window, owner in zip(heard, owners, strict=True):
        span = slice(window.start, window.stop)
        for piece in window.pieces:
            if piece.voice not in owner:
                likely[span, _nearest(likely[span], window.active[:, piece.voice])] += window.likely[
                    :, piece.voice
                ]
    speaking = np.rint(count / np.maximum(seen, 1)).astype(int)
    order = np.argsort(-likely, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    return np.asarray((rank < speaking[:, None]) & (likely > 0.0))


def tidied(active: npt.NDArray[np.bool_], grouping: Grouping) -> npt.NDArray[np.bool_]:
    """Without the shortest pauses inside a person's turn, then without the shortest turns."""
    found = active.copy()
    for person in range(found.shape[1]):
        _flip_short(found[:, person], value=False, shorter_s=grouping.shortest_pause_s)
        _flip_short(found[:, person], value=True, shorter_s=grouping.shortest_turn_s)
    return found


def _flip_short(row: npt.NDArray[np.bool_], *, value: bool, shorter_s: float) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate(([not value], row, [not value])).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        inside = begin > 0 and end < len(row)
        if (end - begin) * FRAME_S < shorter_s and (value or inside):
            row[begin:end] = not value


def _nearest(likely: npt.NDArray[np.float64], active: npt.NDArray[np.bool_]) -> int:
    """The person to whom a short voice most probably belongs."""
    there = likely[active].sum(axis=0)
    if there.max() > 0.0:
        return int(there.argmax())
    middle = float(np.flatnonzero(active).mean())
    times = np.arange(len(likely))[:, None]
    return int((likely / (1.0 + np.abs(times - middle))).sum(axis=0).argmax())


def _sure(heard: Sequence[Window], least_s: float) -> _Sure | None:
    found = [
        (piece.embedding, piece.alone_s, at, piece.voice)
        for at, window in enumerate(heard)
        for piece in window.pieces
        if piece.embedding is not None and piece.alone_s >= least_s
    ]
    if not found:
        return None
    embeddings, alone, windows, voices = zip(*found, strict=True)
    return _Sure(np.stack(embeddings), np.array(alone) + 0.1, np.array(windows), np.array(voices))


def _recognised(embeddings: Matrix, known: Known | None) -> tuple[tuple[str, ...], Labels]:
    """Who of the known people is heard, and for each piece which of them, or _NOBODY."""
    owner = np.full(len(embeddings), _NOBODY, np.intp)
    if known is None or not known.templates:
        return (), owner
    names = tuple(known.templates)
    similar = embeddings @ np.stack([known.templates[name] for name in names]).T
    best = similar.argmax(axis=1)
    fits = [known.llr(float(similar[at, person])) >= known.bar_llr for at, person in enumerate(best)]
    heard = sorted({int(person) for person, fit in zip(best, fits, strict=True) if fit})
    for at, person in enumerate(best):
        if fits[at]:
            owner[at] = heard.index(int(person))
    return tuple(names[person] for person in heard), owner


def _met_again(
    names: tuple[str, ...], centre: Matrix, others: Matrix, known: Known | None, fewest: int, most: int
) -> Voices:
    """Known people and groups together: a group that as a whole fits a known person is that person."""
    people, rows, strangers = list(names), list(centre), 0
    for row in others:
        fitting, _ = _recognised(row[np.newaxis], known)
        if fitting and fitting[0] in people:
            fewest, most = fewest - 1, most - 1
        elif fitting:
            people.append(fitting[0])
            rows.append(row)
        else:
            strangers += 1
            people.append(f"speaker-{strangers}")
            rows.append(row)
    found = len(people)
    fewest, most = len(names) + fewest, len(names) + most
    return Voices(tuple(people), np.stack(rows), min(found, fewest), max(found, most))


def _without_small(sure: _Sure, labels: Labels, grouping: Grouping, everything: float) -> Labels:
    """Groups of next to no speech folded into the ones they are most like, the smallest first."""
    least = max(grouping.smallest_s, grouping.smallest_share * everything)
    labels = labels.copy()
    while labels.max() > 0:
        groups = int(labels.max()) + 1
        sizes = np.bincount(labels, weights=sure.weights, minlength=groups)
        small = int(sizes.argmin())
        if sizes[small] >= least:
            break
        middle = centres(sure.embeddings, sure.weights, labels, groups)
        similar = middle @ middle[small]
        similar[small] = -np.inf
        labels[labels == small] = similar.argmax()
        labels[labels > small] -= 1
    return labels


def _llr(known: Known | None, name: str, centre: Embedding) -> float | None:
    if known is None or name not in known.templates:
        return None
    return known.llr(float(centre @ known.templates[name]))
