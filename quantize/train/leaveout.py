"""Leave one page out, leave one system out: the first network, trained again, on what it left out.

Cheap because pooled patches serve every training; the second network, which takes minutes, is judged in the
two folds of `splits.py` only. A page takes its people and, under every name, its systems
with it; copies of its people too. Attacks of a system are held against people whom nobody trained on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from quantize.train import corpus, splits
from quantize.train.bank import JUDGED, Bank, judged_vectors, judging
from quantize.train.fit import FitSettings, fit
from quantize.train.scoring import eer, interval

LEAST_ATTACKS, LEAST_PEOPLE = 8, 5
NO_CORPUS = "none"
"""Not the empty name, which is the voice of samples from the field: they would be left out with it."""


@dataclass(frozen=True, slots=True)
class Left:
    """One page or system, and what a model that never heard it is asked."""

    kind: str
    name: str
    people: tuple[np.ndarray, np.ndarray]
    """Scores of the two heads for people, clean."""
    digital: np.ndarray
    replayed: np.ndarray


def groups(items, judged):
    """(kind, name, fold) of every page with attacks and every system with enough files to judge."""
    pages = sorted({i.page for i in items if i.spoof and i.page != "made"})
    count = Counter(i.family for i in judged if i.spoof)
    for page in pages:
        yield "page", page, splits.Fold(page, frozenset({page}), frozenset(), NO_CORPUS)
    for family in sorted(f for f, n in count.items() if n >= LEAST_ATTACKS):
        yield "system", family, splits.Fold(family, frozenset(), frozenset({family}), NO_CORPUS)


def leave_out(items, judged, vectors, bank, settings: FitSettings):
    """One `Left` for each group; scores are relative to people whom that model left out of training."""
    for kind, name, fold in track(list(groups(items, judged)), description="left out"):
        heads = fit(splits.training(fold, items), bank, settings)
        with torch.inference_mode():
            found = {c: -heads(torch.from_numpy(vectors[c])).numpy() for c in ("plain", "replayed")}
        kept = np.array(
            [i.part == "calibration" and not i.spoof and i.page not in fold.pages for i in judged]
        )
        centre, spread = found["plain"][kept].mean(axis=0), found["plain"][kept].std(axis=0)
        scores = {c: (x - centre) / spread for c, x in found.items()}
        own = np.array([i.page == name and not i.spoof for i in judged])
        people = own if own.sum() >= LEAST_PEOPLE else kept
        away = np.array([i.spoof and name in (i.page, i.family) for i in judged])
        yield Left(
            kind,
            name,
            (scores["plain"][people, 0], scores["plain"][people, 1]),
            scores["plain"][away, 0],
            scores["replayed"][away, 1],
        )


def table(found) -> Table:
    """EERs with intervals: digital by the synthesis head, replayed by the loudspeaker head, people clean."""
    shown = Table(
        "left out", "people", "attacks", "digital", "95 %", "replayed", "95 %", title="leave one out"
    )
    for kind in ("page", "system"):
        rows = [one for one in found if one.kind == kind]
        if not rows:
            continue
        for one in rows:
            shown.add_row(f"{kind} {one.name}", *_cells(one.people, one.digital, one.replayed))
        people = tuple(np.concatenate([one.people[n] for one in rows]) for n in (0, 1))
        attacks = [np.concatenate([getattr(one, side) for one in rows]) for side in ("digital", "replayed")]
        shown.add_row(f"all {kind}s, pooled", *_cells(people, *attacks), end_section=True)
    return shown


def _cells(people, digital, replayed):
    cells = [str(len(people[0])), str(len(digital))]
    for head, attacks in ((people[0], digital), (people[1], replayed)):
        low, high = interval(head, attacks)
        cells += [f"{eer(head, attacks):.1%}", f"{low:.1%} - {high:.1%}"]
    return cells


def run(data: Path, attacks: Path, work: Path, settings: FitSettings) -> None:
    items = corpus.load(data, attacks, work)
    judged = judging(items)
    vectors = {c: judged_vectors(work, c, judged) for c in JUDGED}
    found = list(leave_out(items, judged, vectors, Bank.load(work), settings))
    Console(width=110).print(table(found))
