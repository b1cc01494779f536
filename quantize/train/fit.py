"""Trains the heads on the bank: cheap enough to do again for every fold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quantize.train.network import Heads, SpoofNet

BONAFIDE_WEIGHTS = {"libri": 0.26, "so762": 0.2, "an4": 0.14, "asterisk": 0.1}
"""The rest is shared by the pages' own bona fide, file by file."""
BONAFIDE_REST = 0.3
FAMILY_CAP = 140


@dataclass(frozen=True, slots=True)
class FitSettings:
    steps: int = 500
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 0.1
    replay_weight: float = 0.7
    smoothing: float = 0.03
    seed: int = 1


def weights(items) -> np.ndarray:
    """How often each item is drawn: half bona fide by corpus, half spoof by family, large ones held back."""
    count = Counter((i.spoof, _group(i)) for i in items)
    families = {f: np.sqrt(min(FAMILY_CAP, n)) for (spoof, f), n in count.items() if spoof}
    groups = {g: BONAFIDE_WEIGHTS.get(g, BONAFIDE_REST) for (spoof, g) in count if not spoof}
    total = {True: sum(families.values()), False: sum(groups.values())}
    drawn = []
    for item in items:
        name = _group(item)
        mass = (families if item.spoof else groups)[name]
        drawn.append(0.5 * mass / total[item.spoof] / count[item.spoof, name])
    return np.array(drawn) / np.sum(drawn)


def _group(item) -> str:
    if item.spoof:
        return item.system if item.page == "made" else item.family
    return item.page if item.page in BONAFIDE_WEIGHTS else "pages"


def load_bank(work: Path):
    """(vectors of shape (passes, items, POOLED), replayed flags of shape (passes, items))."""
    passes = [np.load(p) for p in sorted(work.glob("train-*.npz")) if p.stem[6:].isdigit()]
    return np.stack([p["pooled"] for p in passes]), np.stack([p["replayed"] for p in passes])


def fit(items, chosen, bank, settings: FitSettings) -> Heads:
    """Heads trained on the renderings of `chosen`, a subset of `items` in whose order the bank lies."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(settings.seed)
    place = {id(item): n for n, item in enumerate(items)}
    rows = np.array([place[id(item)] for item in chosen])
    vectors, replayed = bank
    odds = weights(chosen)
    spoof = np.array([float(i.spoof) for i in chosen])
    heads = Heads()
    sample = (
        vectors[:, rows[rng.choice(len(rows), 1500, p=odds)]].reshape(-1, vectors.shape[2]).astype(np.float32)
    )
    heads.centre.copy_(torch.from_numpy(sample.mean(axis=0)))
    heads.spread.copy_(torch.from_numpy(sample.std(axis=0) + 1e-3))
    optimiser = torch.optim.AdamW(heads.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
        drawn = rng.choice(len(rows), settings.batch, p=odds)
        turn = rng.integers(0, len(vectors), settings.batch)
        x = torch.from_numpy(vectors[turn, rows[drawn]].astype(np.float32))
        targets = np.stack([spoof[drawn], replayed[turn, rows[drawn]].astype(float)], axis=1)
        soft = torch.from_numpy(targets * (1 - 2 * settings.smoothing) + settings.smoothing).float()
        logits = heads.each(x)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, soft.expand_as(logits), reduction="none"
        ).mean(dim=(0, 1))
        loss = each[0] + settings.replay_weight * each[1]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return heads.eval()


def assemble(layer, heads) -> SpoofNet:
    """The whole network of a patch layer and heads."""
    net = SpoofNet()
    net.patches, net.heads = layer, heads
    return net.eval()
