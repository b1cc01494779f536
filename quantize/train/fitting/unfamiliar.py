"""Puts the zero of LLRs learned from attacks where people of sources outside the training set it.

People of sources that a head was trained on score too high. So the sources are split in three, a head is
trained without each third, and SHARE of the people of the corpora left out, every corpus counted alike, lie
below the zero. Sources whose people may have gone through a vocoder, or play robots, set no zero: their few
lowest files would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from quantize.errors import QuantizeError
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, fit
from quantize.train.judging.calibrate import CORPORA, SHARE, certain
from quantize.train.speech.bank import Bank, Held
from quantize.train.speech.corpus import Item

THIRDS = 3
LEARNED = ("synthetic", "envelopes")
"""Kinds of evidence that learn from attacks; of both, a higher score is more bona fide."""


def zeros(chosen: Sequence[Item], bank: Bank, plain: Held, settings: FitSettings) -> dict[str, float]:
    """The score of each of LEARNED that is to be LLR 0, when training may use the `chosen` items.

    `plain` holds their people as they are. Raises QuantizeError when these have fewer than THIRDS sources, or
    none whose people are people for certain.
    """
    sources = sorted({i.page for i in chosen if not i.spoof})
    if len(sources) < THIRDS:
        raise QuantizeError(
            f"people of at least {THIRDS} sources are needed, not of {', '.join(sources)} alone"
        )
    if not any(certain(source) for source in sources):
        raise QuantizeError(f"people of at least one of {', '.join(sorted(CORPORA))} are needed")
    found: dict[str, list[npt.NDArray[np.float64]]] = {kind: [] for kind in LEARNED}
    for third in range(THIRDS):
        away = set(sources[third::THIRDS])
        judged = sorted(filter(certain, away))
        if not judged:
            continue
        heard = [i for i in chosen if i.page not in away and i.voice not in away]
        texture, head = fit(heard, bank, settings), fit_envelopes(heard, bank, settings)
        for source in judged:
            own = [i for i in chosen if i.page == source and not i.spoof]
            with torch.inference_mode():
                found["synthetic"].append(-texture(torch.from_numpy(plain.pooled(own)))[:, 0].numpy())
            found["envelopes"].append(np.array([head.score(one) for one in plain.envelopes(own)]))
    return {kind: _quantile(scores, SHARE) for kind, scores in found.items()}


def _quantile(scores: list[npt.NDArray[np.float64]], share: float) -> float:
    """The quantile of all `scores` when every source weighs the same."""
    values = np.concatenate(scores)
    weight = np.concatenate([np.full(len(one), 1 / len(one)) for one in scores])
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][np.searchsorted(reached, share)])
