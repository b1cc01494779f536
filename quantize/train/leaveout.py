"""Leave one page out, leave one system out: all that answers for synthesis, trained again.

Cheap because the bank serves every training and frame rates need none; the second network, which takes
minutes, is judged in the two folds of `splits.py` only. A page takes its people and, under every name, its
systems with it; copies of its people too. Attacks of a system are held against people whom nobody trained on.
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

from device.models._beats import beats
from quantize.train import corpus, splits
from quantize.train.bank import JUDGED, Bank, Held, judging
from quantize.train.calibrate import CLASSICAL_FAMILIES, SHARE, against_any, certain, logistic, rarity
from quantize.train.envelopes import fit_envelopes
from quantize.train.fit import FitSettings, fit
from quantize.train.null import fit_null, measure
from quantize.train.scoring import RATE_HZ, eer, interval, render
from quantize.train.unfamiliar import zeros

ASKED = ("texture", "envelopes", "frame rates", "digital, any of them", "replayed")
LEAST_ATTACKS, LEAST_PEOPLE = 8, 5
NO_CORPUS = "none"
"""Not the empty name, which is the voice of samples from the field: they would be left out with it."""


@dataclass(frozen=True, slots=True)
class Left:
    """One page or system, and what a model that never heard it is asked."""

    kind: str
    name: str
    people: tuple[np.ndarray, ...]
    """Scores for people, clean: one array for each of `ASKED`."""
    attacks: tuple[np.ndarray, ...]
    """Scores of the attacks, digital but for the last."""


def groups(items, judged):
    """(kind, name, fold) of every page with attacks and every system with enough files to judge."""
    pages = sorted({i.page for i in items if i.spoof and i.page != "made"})
    count = Counter(i.family for i in judged if i.spoof)
    for page in pages:
        yield "page", page, splits.Fold(page, frozenset({page}), frozenset(), NO_CORPUS)
    for family in sorted(f for f, n in count.items() if n >= LEAST_ATTACKS):
        yield "system", family, splits.Fold(family, frozenset(), frozenset({family}), NO_CORPUS)


def leave_out(items, judged, held, heard, people, bank, settings: FitSettings):
    """One `Left` for each group; digital scores are LLRs under the calibration that this model may know.

    `held` is what the bank keeps by condition, `heard` holds `beats` and seconds of the judged files as they
    are, `people` what `null.measure` gives. Zeros, which people alone set, are worked out anew for a page.
    """
    vectors = {condition: one.pooled(judged) for condition, one in held.items()}
    moves = held["plain"].envelopes(judged)
    usual = zeros(splits.training(None, items), bank, held["plain"], settings)
    for kind, name, fold in track(list(groups(items, judged)), description="left out"):
        chosen = splits.training(fold, items)
        heads, paths = fit(chosen, bank, settings), {i.path for i in chosen}
        envelopes = fit_envelopes(chosen, bank, settings)
        zero = zeros(chosen, bank, held["plain"], settings) if kind == "page" else usual
        null = fit_null([[one for path, one in each if path in paths] for each in people])
        with torch.inference_mode():
            found = {c: -heads(torch.from_numpy(vectors[c])).numpy() for c in ("plain", "replayed")}
        moved = np.array([envelopes.score(one) for one in moves])
        beat = np.array([null.standing_out(one, seconds).score for one, seconds in heard])
        known = {i.path for i in splits.calibration(fold, items)}
        kept = np.array([i.path in known and not i.spoof for i in judged])
        sure = kept & np.array([certain(i.page) for i in judged])
        taught = np.array([i.path in known and i.spoof for i in judged])
        old = taught & np.array([i.family in CLASSICAL_FAMILIES for i in judged])
        texture = _llr(found["plain"][:, 0], kept, taught, zero["synthetic"])
        vocoded = _llr(moved, sure, old, zero["envelopes"])
        slope = rarity(beat[sure])
        frames = slope * (beat - np.quantile(beat[sure], SHARE))
        digital = (texture, vocoded, frames, against_any(texture, vocoded, frames))
        own = np.array([i.page == name and not i.spoof for i in judged])
        asked = own if own.sum() >= LEAST_PEOPLE else kept
        away = np.array([i.spoof and name in (i.page, i.family) for i in judged])
        # Loudspeaker scores of different models are only comparable relative to each one's people.
        spread = [
            (found[c][:, 1] - found["plain"][kept, 1].mean()) / found["plain"][kept, 1].std() for c in found
        ]
        yield Left(
            kind,
            name,
            tuple(one[asked] for one in (*digital, spread[0])),
            tuple(one[away] for one in (*digital, spread[1])),
        )


def _llr(scores, people, attacks, zero):
    scale, _ = logistic(scores[people], scores[attacks])
    return scale * (scores - zero)


def table(found) -> Table:
    """EERs with intervals, people clean: digital by each kind of evidence and by any of them; replayed."""
    titles = [column for asked in ASKED for column in (asked, "95 %")]
    shown = Table("left out", "people", "attacks", *titles, title="leave one out")
    for kind in ("page", "system"):
        rows = [one for one in found if one.kind == kind]
        if not rows:
            continue
        for one in rows:
            shown.add_row(f"{kind} {one.name}", *_cells(one.people, one.attacks))
        people, attacks = (
            [np.concatenate(parts) for parts in zip(*(getattr(one, side) for one in rows), strict=True)]
            for side in ("people", "attacks")
        )
        shown.add_row(f"all {kind}s, pooled", *_cells(people, attacks), end_section=True)
    return shown


def _cells(people, attacks):
    cells = [str(len(people[0])), str(len(attacks[0]))]
    for human, made in zip(people, attacks, strict=True):
        low, high = interval(human, made)
        cells += [f"{eer(human, made):.1%}", f"{low:.1%} - {high:.1%}"]
    return cells


def beats_of(judged):
    """`beats` and seconds of every file as it is."""
    waves = (render(i, "plain", (), ()) for i in track(judged, description="frame rates"))
    return [(beats(wave), len(wave) / RATE_HZ) for wave in waves]


def run(data: Path, attacks: Path, work: Path, settings: FitSettings) -> None:
    items = corpus.load(data, attacks, work)
    judged = judging(items)
    held = {condition: Held.load(work, condition) for condition in JUDGED}
    people = measure(splits.training(None, items))
    found = list(leave_out(items, judged, held, beats_of(judged), people, Bank.load(work), settings))
    Console(width=170).print(table(found))
