"""The recordings that judge `ostiary inspect`, and what is true of each. Nothing was fitted on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.editing import EDITS, able, edit
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.sound import read_wave
from quantize.evaluate.recordings.splicing import STYLES, WAYS, Source, Splice, draw
from quantize.playback import CODECS, coded

EACH = 50
SHORTEST_S = 1.2
PEOPLE, MADE, EDITED, CODED = "people", "synthetic", "edited", "re-encoded"
PASTED = "pasted answer, "
DRAWS = 200
"""Tries for one edit."""


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """One recording and what is true of it."""

    kind: str
    """PEOPLE, MADE, EDITED or CODED."""
    unit: str
    """The person or the system."""
    wave: Wave
    made: bool
    edit: str = ""
    """What was done to it: one of EDITS, or a way of pasting; empty where nothing was."""
    joins_s: tuple[float, ...] = ()
    edges_s: tuple[float, ...] = ()
    """Where an edit meets room tone beside the speech: a mark there is neither asked for nor false."""

    @property
    def seconds(self) -> float:
        return len(self.wave) / SAMPLE_RATE_HZ


def files(
    recordings: Sequence[Recording], sources: Mapping[str, Sequence[Source]], root: Path, each: int = EACH
) -> Iterator[File]:
    """`each` of people as recorded, of synthesis, of edits, and of people and edits through a codec; the same
    every time. Of edits one half is pasted answers, the other what EDITS says.
    """
    dice = np.random.default_rng(11)
    people = list(whole(sources))
    plain = [people[at] for at in dice.permutation(len(people))[: each + each // 2]]
    edits = list(_edits(sources, dice, each + each - each // 2))
    for number, one in enumerate([*plain, *edits]):
        place = number if number < len(plain) else number - len(plain)
        if place < each:
            yield one
        else:
            wave = coded(one.wave, tuple(CODECS)[number % len(CODECS)])
            yield File(CODED, one.unit, wave, False, one.edit, one.joins_s, one.edges_s)
    machines = [one for one in recordings if one.label == "spoof" and not fits(one.system)]
    heard = 0
    for at in dice.permutation(len(machines)):
        wave = read_wave(root / machines[at].path)
        if len(wave) >= SHORTEST_S * SAMPLE_RATE_HZ and heard < each:
            heard += 1
            yield File(MADE, machines[at].system, wave, True)


def whole(sources: Mapping[str, Sequence[Source]]) -> Iterator[File]:
    """Every recording of these people as it is."""
    for name, theirs in sorted(sources.items()):
        for source in theirs:
            if len(source.wave) >= SHORTEST_S * SAMPLE_RATE_HZ:
                yield File(PEOPLE, name, source.wave, False)


def _edits(sources: Mapping[str, Sequence[Source]], dice: np.random.Generator, count: int) -> Iterator[File]:
    pasting = [name for name, theirs in sorted(sources.items()) if len(theirs) > 1]
    editing = [name for name, theirs in sorted(sources.items()) if able(theirs)]
    for number in range(count):
        names = editing if number % 2 and editing else pasting
        for _ in range(DRAWS):
            if not names:
                return
            name = names[int(dice.integers(len(names)))]
            made = _one(sources[name], number // 2, names is editing and bool(number % 2), dice)
            if made is not None:
                what = made.style if made.style in EDITS else PASTED + made.way
                yield File(EDITED, name, made.wave, False, what, made.joins_s, made.edges_s)
                break


def _one(sources: Sequence[Source], number: int, edited: bool, dice: np.random.Generator) -> Splice | None:
    if edited:
        return edit(sources, EDITS[number % len(EDITS)], dice)
    return draw(sources, WAYS[number % len(WAYS)], STYLES[int(dice.integers(len(STYLES)))], dice)
