"""Leave one page out, leave one system out: all that answers for synthesis, trained again.

Cheap because the bank serves every training and frame rates need none; the second network, which takes
minutes, is judged in the two folds of `splits.py` only. A page takes its people and, under every name, its
systems with it; copies of its people too. Attacks of a system are held against people whom nobody trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.frame_rates import frame_rates
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, fit
from quantize.train.fitting.norms import fit_norms, measure
from quantize.train.fitting.unfamiliar import zeros
from quantize.train.judging.calibrate import CLASSICAL_FAMILIES, SHARE, against_any, certain, logistic, rarity
from quantize.train.speech import corpus
from quantize.train.speech.bank import Bank, Held
from quantize.train.speech.scoring import eer, render
from research.detector import splits
from research.detector.scores import interval

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


@dataclass(frozen=True, slots=True)
class Rig:
    """All that every group is judged with."""

    items: list
    judged: list
    held: dict[str, Held]
    """What the bank keeps of the judged files, by condition."""
    heard: list
    """`frame_rates` and seconds of the judged files as they are."""
    people: list
    """What `norms.measure` gives."""
    bank: Bank
    settings: FitSettings
    usual: dict[str, float]
    """Zeros, which people alone set: those of all people. For a page they are worked out anew."""

    def left(self, kind: str, name: str, fold: splits.Fold) -> Left:
        """What a model is asked that never heard this; scores are LLRs under the calibration it may know."""
        judged, chosen = self.judged, splits.training(fold, self.items)
        heads, paths = fit(chosen, self.bank, self.settings), {i.path for i in chosen}
        envelopes = fit_envelopes(chosen, self.bank, self.settings)
        zero = self.usual
        if kind == "page":
            zero = zeros(chosen, self.bank, self.held["plain"], self.settings)
        norms = fit_norms([[one for path, one in each if path in paths] for each in self.people])
        with torch.inference_mode():
            found = {c: -heads(torch.from_numpy(h.pooled(judged))).numpy() for c, h in self.held.items()}
        moved = np.array([envelopes.score(one) for one in self.held["plain"].envelopes(judged)])
        beat = np.array([norms.compare(one, seconds).score for one, seconds in self.heard])
        known = {i.path for i in splits.calibration(fold, self.items)}
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
        return Left(
            kind,
            name,
            tuple(one[asked] for one in (*digital, spread[0])),
            tuple(one[away] for one in (*digital, spread[1])),
        )


_rig: Rig
"""Of a worker, which inherits it: the corpus is not copied."""


def _share(rig: Rig) -> None:
    global _rig
    _rig = rig


def _left(group) -> Left:
    return _rig.left(*group)


def leave_out(rig: Rig, jobs: int) -> Iterator[Left]:
    """One `Left` for each group, `jobs` of them at a time."""
    wanted = list(groups(rig.items, rig.judged))
    with ProcessPoolExecutor(jobs, get_context("fork"), _share, (rig,)) as pool:
        yield from track(pool.map(_left, wanted), description="left out", total=len(wanted))


def _llr(scores, people, attacks, zero):
    scale, _ = logistic(scores[people], scores[attacks])
    return scale * (scores - zero)


def table(found) -> Table:
    """EERs with intervals, people clean: digital by each kind of evidence and by any of them; replayed."""
    shown = Table("left out", "people", "attacks", *ASKED, title="leave one out")
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
        cells.append(f"{eer(human, made):.1%} ({low:.0%} - {high:.0%})")
    return cells


def frame_rates_of(judged):
    """`frame_rates` and seconds of every file as it is."""
    waves = (render(i, "plain", (), ()) for i in track(judged, description="frame rates"))
    return [(frame_rates(wave), len(wave) / SAMPLE_RATE_HZ) for wave in waves]


def run(data: Path, attacks: Path, work: Path, settings: FitSettings, jobs: int) -> None:
    items, bank = corpus.load(data, attacks, work), Bank.load(work)
    judged, allowed = splits.judging(items), splits.training(None, items)
    held = {condition: Held.load(work, condition) for condition in ("plain", "replayed")}
    usual = zeros(allowed, bank, held["plain"], settings)
    rig = Rig(items, judged, held, frame_rates_of(judged), measure(allowed), bank, settings, usual)
    Console(width=170).print(table(list(leave_out(rig, jobs))))
