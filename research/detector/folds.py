"""For each fold, trains networks that never heard its pages, systems, corpus or voices, and scores them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, assemble, fit
from quantize.train.fitting.norms import norms_of
from quantize.train.fitting.unfamiliar import zeros
from quantize.train.judge import Detectors, Judge
from quantize.train.networks.moments import Moments
from quantize.train.release import load_weights
from quantize.train.speech.bank import Bank, Held, patch_layer
from quantize.train.speech.scoring import write_rows
from research.detector import splits
from research.detector.fit_moments import fit_moments
from research.detector.pictures import Pictures


def second(work: Path, name: str, chosen) -> Moments:
    """The second network of this fold, trained at the first call (minutes) and kept in WORK."""
    path = work / f"moments-{name}.pt"
    if path.exists():
        return load_weights(Moments(), path)
    moments = fit_moments(chosen, Pictures.training(work))
    torch.save(moments.state_dict(), path)
    return moments


def run(items, data: Path, work: Path, settings: FitSettings) -> None:
    """Train and score every fold; scores and zeros go to WORK."""
    bank, plain, judge = Bank.load(work), Held.load(work, "plain"), Judge.open(data)
    layer = patch_layer(work)
    for fold in splits.FOLDS:
        chosen = splits.training(fold, items)
        texture = assemble(layer, fit(chosen, bank, settings))
        detectors = Detectors(
            texture, second(work, fold.name, chosen), fit_envelopes(chosen, bank, settings), norms_of(chosen)
        )
        rows = judge.rows(detectors, splits.held_out(fold, items), fold.name, "unseen")
        rows += judge.rows(detectors, splits.calibration(fold, items), fold.name, "seen")
        zero = zeros(chosen, bank, plain, settings)
        (work / f"zeros-{fold.name}.json").write_text(json.dumps(zero) + "\n")
        write_rows(work / f"scores-{fold.name}.tsv", rows)
