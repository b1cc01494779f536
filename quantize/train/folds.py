"""The rig: for each fold, heads that never heard its pages, systems, corpus or voices, and their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from quantize.train import splits
from quantize.train.bank import judging
from quantize.train.fit import FitSettings, fit, load_bank
from quantize.train.scoring import ALL_CONDITIONS, score_rows, write_rows


def judged_vectors(work: Path):
    """Condition -> pooled patches of the judged files; conditions not worked out yet are left out."""
    paths = {c: work / f"judge-{c}.npz" for c in ALL_CONDITIONS}
    return {c: np.load(p)["pooled"] for c, p in paths.items() if p.exists()}


def scores_of(heads, items, judged, vectors, fold, part):
    """Rows of a score file for `items`, which are among `judged`, in every condition at hand."""
    place = {item.path: n for n, item in enumerate(judged)}
    rows = []
    for condition, pooled in vectors.items():
        chosen = torch.from_numpy(pooled[[place[i.path] for i in items]])
        with torch.inference_mode():
            found = -heads(chosen).numpy()
        rows += score_rows(items, found, condition, fold, part)
    return rows


def run(items, work: Path, settings: FitSettings, names=None) -> None:
    bank, vectors, judged = load_bank(work), judged_vectors(work), judging(items)
    for fold in track([f for f in splits.FOLDS if not names or f.name in names], description="folds"):
        heads = fit(items, splits.training(fold, items), bank, settings)
        rows = scores_of(heads, splits.held_out(fold, items), judged, vectors, fold.name, "unseen")
        rows += scores_of(heads, splits.calibration(fold, items), judged, vectors, fold.name, "seen")
        write_rows(work / f"scores-{fold.name}.tsv", rows)
