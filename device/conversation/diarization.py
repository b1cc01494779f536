"""Who spoke when in a recording: groups of pieces, known people's names for them, then each piece again.

First pass: pieces with enough speech of one voice are grouped by average linkage; groups that fit a known
person are theirs, the rest are strangers. Second pass: every piece of every window goes to the nearest voice,
two that overlap in time never to the same person. Then the windows, which overlap, vote frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from device.conversation.grouping import Labels, Matrix, centres, cut, distances, linkage
from device.conversation.hearing import Window
from device.conversation.settings import Grouping
from device.conversation.turns import Turn, overlaps, turns_of
from device.models.segmentation import FRAME_S
from device.models.speaker import Embedding

MAX_SPEAKERS = 20
DEFAULT = Grouping()
GROUP_LLR = -1.0
"""Lower than at a door: groups hold noise, rooms and others' syllables. On development conversations in which
nobody was enrolled, 0 of 78 groups got one of 30 names (below 3.8 % with 95 % confidence).
"""
_NOBODY = -1
_NEAR_S = 30.0
"""How far from a piece of next to no sound its speaker is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """People who may be recognised: unit templates by name, and what a cosine of theirs means as LLR."""

    templates: Mapping[str, Embedding]
    llr: Callable[[float], float]
    at_least_llr: float = GROUP_LLR
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

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """What the first pass found: each person's name and centre, known people first."""

    names: tuple[str, ...]
    centres: Matrix
    llrs: tuple[float | None, ...]
    """Of each known person's groups, before the template is mixed in."""
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
    owners = second_pass(heard, voices.centres, grouping.voice_weight)
    active = tidied(vote(heard, owners, len(voices.names), grouping.eager), grouping)
    spoken = active.sum(axis=0) * FRAME_S
    turns = turns_of(active, FRAME_S, voices.names)
    people = tuple(
        Speaker(name, round(float(spoken[at]), 3), voices.llrs[at])
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
    merges = linkage(distances(sure.embeddings, sure.windows, sure.voices))

    def named_at(bar: float) -> Voices:
        labels = cut(merges, len(sure), nearer_than=1.0 - bar)
        return _named(sure, _without_small(sure, labels, grouping), grouping, known)

    if speakers is not None:
        labels = cut(merges, len(sure), groups=min(speakers, len(sure)))
        found = _named(sure, labels, grouping, known)
        return replace(found, fewest=len(found.names), most=len(found.names))
    found = named_at(grouping.same_voice)
    others = [named_at(grouping.same_voice + step) for step in (-grouping.doubt, grouping.doubt)]
    counts = [len(one.names) for one in (found, *others)]
    return replace(found, fewest=min(counts), most=max(counts))


def second_pass(heard: Sequence[Window], centre: Matrix, voice_weight: float) -> list[list[int]]:
    """For each window, the person of each of its pieces; _NOBODY for one without an embedding.

    A piece is judged by itself and, by `voice_weight`, by everything that the segmentation calls the same
    voice. Pieces of two voices that overlap in time are not one person.
    """
    owners = []
    for window in heard:
        similar = np.full((len(window.pieces), len(centre)), np.nan)
        for at, piece in enumerate(window.pieces):
            if piece.embedding is not None:
                similar[at] = centre @ piece.embedding
        lengths = np.array([piece.end - piece.begin for piece in window.pieces], dtype=np.float64)
        voices = np.array([piece.voice for piece in window.pieces])
        told = ~np.isnan(similar[:, 0]) if len(similar) else np.zeros(0, bool)
        blended = similar.copy()
        for voice in set(voices[told].tolist()):
            mine = told & (voices == voice)
            whole = np.average(similar[mine], axis=0, weights=lengths[mine])
            blended[mine] = (1.0 - voice_weight) * similar[mine] + voice_weight * whole
        owners.append(_exclusive(window, blended, told))
    return owners


def _exclusive(window: Window, similar: npt.NDArray[np.float64], told: npt.NDArray[np.bool_]) -> list[int]:
    """Each told piece to whom it is most like, the clearest first; nobody is in two places at once."""
    owner = [_NOBODY] * len(window.pieces)
    for at in sorted(np.flatnonzero(told).tolist(), key=lambda one: -float(similar[one].max())):
        piece = window.pieces[at]
        taken = {
            owner[other]
            for other, across in enumerate(window.pieces)
            if owner[other] != _NOBODY
            and across.voice != piece.voice
            and across.begin < piece.end
            and piece.begin < across.end
        }
        free = [person for person in range(similar.shape[1]) if person not in taken]
        owner[at] = max(free or range(similar.shape[1]), key=lambda person: float(similar[at, person]))
    return owner


def vote(
    heard: Sequence[Window], owners: Sequence[Sequence[int]], people: int, eager: float
) -> npt.NDArray[np.bool_]:
    """Who speaks in each frame, (frames, people): as many as the windows count, those they find likeliest.

    A piece too short for an embedding goes to the person found there in the other windows, and else to
    who was speaking nearest in time.
    """
    frames = max(window.stop for window in heard)
    likely, count, seen = np.zeros((frames, people)), np.zeros(frames), np.zeros(frames)
    for window, owner in zip(heard, owners, strict=True):
        span = slice(window.start, window.stop)
        seen[span] += 1
        count[span] += window.likely.sum(axis=1)
        for piece, person in zip(window.pieces, owner, strict=True):
            if person != _NOBODY:
                begin, end = window.start + piece.begin, window.start + piece.end
                likely[begin:end, person] += window.likely[piece.begin : piece.end, piece.voice]
    known = likely.copy()
    for window, owner in zip(heard, owners, strict=True):
        for piece, person in zip(window.pieces, owner, strict=True):
            if person == _NOBODY:
                begin, end = window.start + piece.begin, window.start + piece.end
                likely[begin:end, _nearest(known, begin, end)] += window.likely[
                    piece.begin : piece.end, piece.voice
                ]
    speaking = np.floor(count / np.maximum(seen, 1) + eager).astype(int)
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


def _nearest(likely: npt.NDArray[np.float64], begin: int, end: int) -> int:
    """The person to whom a short piece most probably belongs."""
    there = likely[begin:end].sum(axis=0)
    if there.max() > 0.0:
        return int(there.argmax())
    reach = round(_NEAR_S / FRAME_S)
    first = max(0, begin - reach)
    around = likely[first : end + reach]
    distance = np.abs(np.arange(first, first + len(around)) - (begin + end) / 2.0)
    return int((around / (1.0 + distance)[:, None]).sum(axis=0).argmax())


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


def _named(sure: _Sure, labels: Labels, grouping: Grouping, known: Known | None) -> Voices:
    """Groups by the known people whom they fit as a whole, those of one person together; then the rest."""
    groups = int(labels.max()) + 1
    centre = centres(sure.embeddings, sure.weights, labels, groups)
    names = [_fitting(centre[group], known) for group in range(groups)]
    people = [*dict.fromkeys(name for name in names if name)]
    strangers = [group for group in range(groups) if not names[group]]
    numbers = {group: len(people) + at for at, group in enumerate(strangers)}
    owner = np.array([people.index(name) if name else numbers[group] for group, name in enumerate(names)])
    merged = owner[labels]
    everybody = (*people, *(f"speaker-{at + 1}" for at in range(len(strangers))))
    count = len(everybody)
    middle = centres(sure.embeddings, sure.weights, merged, count)
    llrs: list[float | None] = [None] * count
    for at, name in enumerate(people):
        if known is not None:  # what was enrolled helps where somebody says little
            llrs[at] = known.llr(float(middle[at] @ known.templates[name]))
            share = grouping.template_weight
            middle[at] = (1.0 - share) * middle[at] + share * known.templates[name]
            middle[at] /= np.linalg.norm(middle[at])
    return Voices(everybody, middle, tuple(llrs), count, count)


def _fitting(centre: Embedding, known: Known | None) -> str:
    """The known person whom a voice fits best, when it fits well enough; else the empty string."""
    if known is None or not known.templates:
        return ""
    names = tuple(known.templates)
    similar = np.stack([known.templates[name] for name in names]) @ centre
    best = int(similar.argmax())
    return names[best] if known.llr(float(similar[best])) >= known.bar_llr else ""


def _without_small(sure: _Sure, labels: Labels, grouping: Grouping) -> Labels:
    """Groups of next to no speech folded into the ones they are most like, the smallest first."""
    least = max(grouping.smallest_s, grouping.smallest_share * float(sure.weights.sum()))
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
