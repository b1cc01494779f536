"""For each fold, trains networks that never heard its pages, systems, corpus or voices, and scores them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from device.models.spoof.envelopes import EnvelopeHead, envelopes
from device.models.spoof.features import spoof_features
from device.models.spoof.norms import BonaFideNorms
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, assemble, fit
from quantize.train.fitting.fit_moments import fit_moments
from quantize.train.fitting.norms import frame_rate_score, norms_of
from quantize.train.fitting.unfamiliar import zeros
from quantize.train.networks.moments import Moments, loudspeaker_scores
from quantize.train.networks.network import Texture, texture_scores
from quantize.train.speech import splits
from quantize.train.speech.augment import noises
from quantize.train.speech.bank import Bank, Held, patch_layer
from quantize.train.speech.pictures import Pictures
from quantize.train.speech.replay import rooms
from quantize.train.speech.scoring import ALL_CONDITIONS, COLUMNS, render, score_rows, write_rows


@dataclass(frozen=True, slots=True)
class Detectors:
    """All that hears, in float: two networks, the envelopes' head, and the norms of frame rates."""

    texture: Texture
    moments: Moments
    envelopes: EnvelopeHead
    norms: BonaFideNorms


@dataclass(frozen=True)
class Judge:
    """Scores files in every condition, in rooms and noises that no training heard."""

    rooms: list[np.ndarray]
    noises: list[np.ndarray]

    @classmethod
    def open(cls, data: Path) -> Judge:
        return cls(rooms(data)[1], noises(data)[1])

    def rows(self, detectors: Detectors, items, fold: str, part: str):
        """Rows of a score file for `items`."""
        rows = []
        for condition in ALL_CONDITIONS:
            found = np.zeros((len(items), len(COLUMNS)))
            for row, item in zip(
                found, track(items, description=f"{fold}, {part}, {condition}"), strict=True
            ):
                wave = render(item, condition, self.rooms, self.noises)
                features = spoof_features(wave)
                row[:] = (
                    *texture_scores(detectors.texture, [features])[0],
                    *loudspeaker_scores(detectors.moments, [features]),
                    detectors.envelopes.score(envelopes(wave)),
                    frame_rate_score(detectors.norms, wave),
                )
            rows += score_rows(items, found, condition, fold, part)
        return rows


def second(work: Path, name: str, chosen) -> Moments:
    """The second network of this fold, trained at the first call (minutes) and kept in WORK."""
    path, moments = work / f"moments-{name}.pt", Moments()
    if path.exists():
        moments.load_state_dict(torch.load(path, weights_only=True))
        return moments.eval()
    moments = fit_moments(chosen, Pictures.training(work))
    torch.save(moments.state_dict(), path)
    return moments


def run(items, data: Path, work: Path, settings: FitSettings) -> None:
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
