"""Scores of every kind of evidence in float, as a door would hear each file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from device.models.spoof.envelopes import EnvelopeHead, envelopes
from device.models.spoof.features import spoof_features
from device.models.spoof.norms import BonaFideNorms
from quantize.train.fitting.norms import frame_rate_score
from quantize.train.networks.moments import Moments, loudspeaker_scores
from quantize.train.networks.network import Texture, texture_scores
from quantize.train.speech.attacks import Row
from quantize.train.speech.augment import noises
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.replay import rooms
from quantize.train.speech.scoring import ALL_CONDITIONS, COLUMNS, render, score_rows


@dataclass(frozen=True, slots=True)
class Detectors:
    """Everything that judges, in float: two networks, the envelopes' head, and the norms of frame rates."""

    texture: Texture
    moments: Moments
    envelopes: EnvelopeHead
    norms: BonaFideNorms


@dataclass(frozen=True)
class Judge:
    """Scores files in every condition, in rooms and noises that no training heard."""

    rooms: list[Wave]
    noises: list[Wave]

    @classmethod
    def open(cls, data: Path) -> Judge:
        return cls(rooms(data)[1], noises(data)[1])

    def rows(
        self,
        detectors: Detectors,
        items: Sequence[Item],
        fold: str,
        part: str,
        conditions: Sequence[str] = ALL_CONDITIONS,
    ) -> list[Row]:
        """Rows of a score file for `items`."""
        rows = []
        for condition in conditions:
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
