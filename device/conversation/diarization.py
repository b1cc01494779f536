"""Finds who spoke when in a recording, in two passes.

First, pieces with enough speech of one voice are grouped by average linkage; groups that fit a known person
get that name, the rest are strangers. Second, every piece of every window goes to the nearest voice, two that
overlap in time never to the same person. Then the windows vote (`voting`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from device.conversation.grouping import Labels, Matrix, centres, cut, distances, linkage
from device.conversation.hearing import Window
from device.conversation.naming import Known, kept_apart
from device.conversation.turns import Turn, overlaps, turns_of
from device.conversation.voting import NOBODY, vote
from device.models.segmentation import FRAME_S

MAX_SPEAKERS = 20
# Chosen on development speakers that no figure is reported on. Similarities are cosines of embeddings.
SAME_VOICE = 0.32
"""Groups at least as alike as this, on average over their pieces, are one person."""
DOUBT = 0.08
"""The count of people is made again with SAME_VOICE this much higher and lower."""
SURELY_SAME = 0.6
"""Groups this much alike are looked for among known people before larger ones are made."""
SURE_PIECE_S = 1.2
"""Pieces with at least this much speech of one voice alone make the groups; shorter ones join them."""
MOST_SURE = 4_000
"""Of more such pieces every second window's make the groups, or every third: their memory is quadratic."""
VOICE_WEIGHT = 0.3
"""How much a piece is judged by the whole of the voice that the segmentation puts it in."""
TEMPLATE_WEIGHT = 0.5
"""How much of a known person's template is in the centre that pieces are compared with."""
SMALLEST_SHARE, SMALLEST_S, ALWAYS_LARGE_S = 0.06, 0.3, 10.0
"""A group with less than this share of all speech, or less than so long, joins the one it is most like; one
of ALWAYS_LARGE_S never does."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody of the recording; `llr` that it is the known person of this name, None for a stranger."""

    name: str
    seconds: float
    llr: float | None = None


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when. Slightly other thresholds would have counted `fewest` to `most` people."""

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
    seconds: npt.NDArray[np.float64]
    """Of their speech, each second counted once however many windows heard it."""

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True, eq=False)
class _Voices:
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
    known: Known | None = None,
    speakers: int | None = None,
) -> Diarization:
    """Who spoke when in `seconds` of sound, of which `heard` are all windows. `speakers` fixes how many
    people there are, known ones included."""
    voices = _first_pass(heard, known, speakers)
    if voices is None:
        return Diarization(seconds, told=speakers)
    owners = _second_pass(heard, voices.centres)
    active = vote(heard, owners, len(voices.names))
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


def _first_pass(heard: Sequence[Window], known: Known | None, speakers: int | None) -> _Voices | None:
    """The voices of a recording; None where nobody spoke for long enough."""
    sure = _sure(heard, SURE_PIECE_S) or _sure(heard, 0.0)
    if sure is None:
        return None
    apart = distances(sure.embeddings, sure.windows, sure.voices)
    merges = linkage(apart)
    names = [""] * len(sure)
    if known is not None:
        pure = cut(merges, len(sure), nearer_than=1.0 - SURELY_SAME)
        found = [known.whose(centre) for centre in _centres(sure, pure)]
        if any(found):
            names = [found[label] for label in pure]
            merges = linkage(kept_apart(apart, pure, found))

    def named_at(bar: float) -> _Voices:
        labels = cut(merges, len(sure), nearer_than=1.0 - bar)
        return _named(sure, _without_small(sure, labels, names), names, known)

    if speakers is not None:
        labels = cut(merges, len(sure), groups=min(speakers, len(sure)))
        voices = _named(sure, labels, names, known)
        return replace(voices, fewest=len(voices.names), most=len(voices.names))
    voices = named_at(SAME_VOICE)
    others = [named_at(SAME_VOICE + step) for step in (-DOUBT, DOUBT)]
    counts = [len(one.names) for one in (voices, *others)]
    return replace(voices, fewest=min(counts), most=max(counts))


def _second_pass(heard: Sequence[Window], centre: Matrix) -> list[list[int]]:
    """For each window, the person of each of its pieces; NOBODY for one without an embedding.
    VOICE_WEIGHT says how much a piece is judged by all that the segmentation calls the same voice."""
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
            blended[mine] = (1.0 - VOICE_WEIGHT) * similar[mine] + VOICE_WEIGHT * whole
        owners.append(_exclusive(window, blended, told))
    return owners


def _exclusive(window: Window, similar: npt.NDArray[np.float64], told: npt.NDArray[np.bool_]) -> list[int]:
    """The person of each told piece: the one it is most like, the clearest piece first. Nobody gets two
    pieces of two voices that overlap."""
    owner = [NOBODY] * len(window.pieces)
    for at in sorted(np.flatnonzero(told).tolist(), key=lambda one: -float(similar[one].max())):
        piece = window.pieces[at]
        taken = {
            owner[other]
            for other, across in enumerate(window.pieces)
            if owner[other] != NOBODY
            and across.voice != piece.voice
            and across.begin < piece.end
            and piece.begin < across.end
        }
        free = [person for person in range(similar.shape[1]) if person not in taken]
        owner[at] = max(free or range(similar.shape[1]), key=lambda person: float(similar[at, person]))
    return owner


def _sure(heard: Sequence[Window], least_s: float) -> _Sure | None:
    found = [
        (at, piece)
        for at, window in enumerate(heard)
        for piece in window.pieces
        if piece.embedding is not None and piece.alone_s >= least_s
    ]
    if not found:
        return None
    every = math.ceil(len(found) / MOST_SURE)
    kept = [(at, piece) for at, piece in found if at % every == 0] or found[:MOST_SURE]
    times = np.zeros(max(window.stop for window in heard))
    for window in heard[::every]:
        times[window.start : window.stop] += 1.0
    starts = [heard[at].start for at, _ in kept]
    alone = np.array([piece.alone_s for _, piece in kept])
    return _Sure(
        np.stack([piece.embedding for _, piece in kept if piece.embedding is not None]),
        alone + 0.1,
        np.array([at for at, _ in kept]),
        np.array([piece.voice for _, piece in kept]),
        alone
        / np.array(
            [
                max(1.0, times[start + piece.begin : start + piece.end].mean())
                for start, (_, piece) in zip(starts, kept, strict=True)
            ]
        ),
    )


def _centres(sure: _Sure, labels: Labels) -> Matrix:
    return centres(sure.embeddings, sure.weights, labels, int(labels.max()) + 1)


def _named(sure: _Sure, labels: Labels, names: Sequence[str], known: Known | None) -> _Voices:
    """Groups by the known people of their pieces, or whom they fit as a whole, those of one person together;
    then the rest."""
    groups = int(labels.max()) + 1
    whose = [_of_pieces(sure, labels == group, names) for group in range(groups)]
    if known is not None:
        middles = _centres(sure, labels)
        whose = [name or known.whose(middle) for name, middle in zip(whose, middles, strict=True)]
    people = [*dict.fromkeys(name for name in whose if name)]
    strangers = [group for group in range(groups) if not whose[group]]
    numbers = {group: len(people) + at for at, group in enumerate(strangers)}
    owner = np.array([people.index(name) if name else numbers[group] for group, name in enumerate(whose)])
    everybody = (*people, *(f"speaker-{at + 1}" for at in range(len(strangers))))
    count = len(everybody)
    middle = centres(sure.embeddings, sure.weights, owner[labels], count)
    llrs: list[float | None] = [None] * count
    for at, name in enumerate(people):
        if known is not None:  # what was enrolled helps where somebody says little
            llrs[at] = known.llrs(middle[at])[name]
            middle[at] = (1.0 - TEMPLATE_WEIGHT) * middle[at] + TEMPLATE_WEIGHT * known.templates[name]
            middle[at] /= np.linalg.norm(middle[at])
    return _Voices(everybody, middle, tuple(llrs), count, count)


def _of_pieces(sure: _Sure, group: npt.NDArray[np.bool_], names: Sequence[str]) -> str:
    """The name that most of a group's named speech has; else the empty string."""
    spoken: dict[str, float] = {}
    for at in np.flatnonzero(group).tolist():
        if names[at]:
            spoken[names[at]] = spoken.get(names[at], 0.0) + float(sure.weights[at])
    return max(spoken, key=lambda name: spoken[name], default="")


def _without_small(sure: _Sure, labels: Labels, names: Sequence[str]) -> Labels:
    """Groups of next to no speech joined to the ones they are most like, the smallest first; but for those
    of a known person."""
    least = min(ALWAYS_LARGE_S, max(SMALLEST_S, SMALLEST_SHARE * float(sure.seconds.sum())))
    named = np.array([bool(name) for name in names])
    labels = labels.copy()
    while labels.max() > 0:
        sizes = np.bincount(labels, weights=sure.seconds)
        sizes[labels[named]] = np.inf
        small = int(sizes.argmin())
        if sizes[small] >= least:
            break
        middle = _centres(sure, labels)
        similar = middle @ middle[small]
        similar[small] = -np.inf
        labels[labels == small] = similar.argmax()
        labels[labels > small] -= 1
    return labels
