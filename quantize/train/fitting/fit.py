"""Trains the first network's heads on the bank, in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from quantize.train.networks.network import Heads, Patches, Texture
from quantize.train.speech.bank import Bank
from quantize.train.speech.corpus import COPIES, Item

FAMILY_CAP = 140


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often each kind is drawn: half bona fide by corpus, half spoof by family, large families less."""

    corpora: dict[str, float]
    rest: float
    """The share of all other pages' people, file by file."""
    copies: float = 1.0
    """Weight of copies of people who are among the bona fide too; a page's system weighs 1."""
    synthesisers: float = 1.0
    """Weight of synthesisers run here, whose voice and channel no person shares."""


MIXTURE = Mixture({"libri": 0.26, "so762": 0.2, "an4": 0.14, "asterisk": 0.1}, rest=0.3)


@dataclass(frozen=True, slots=True)
class FitSettings:
    steps: int = 500
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 0.1
    replay_weight: float = 0.7
    smoothing: float = 0.03
    seed: int = 1
    envelope_steps: int = 6_000
    """Of the envelopes' head, which trains by itself."""


def weights(items: Sequence[Item], mixture: Mixture = MIXTURE) -> npt.NDArray[np.float64]:
    """The odds of drawing each item, shape (n,), which sum to 1."""
    named = [(i.spoof, _group(i, mixture)) for i in items]
    count = Counter(named)
    kinds = {group: _kind(item, mixture) for (spoof, group), item in zip(named, items, strict=True) if spoof}
    families = {f: np.sqrt(min(FAMILY_CAP, n)) * kinds[f] for (spoof, f), n in count.items() if spoof}
    groups = {g: mixture.corpora.get(g, mixture.rest) for (spoof, g) in count if not spoof}
    total = {True: sum(families.values()), False: sum(groups.values())}
    drawn = [
        0.5 * (families if spoof else groups)[name] / total[spoof] / count[spoof, name]
        for spoof, name in named
    ]
    odds: npt.NDArray[np.float64] = np.array(drawn) / np.sum(drawn)
    return odds


def _group(item: Item, mixture: Mixture) -> str:
    if item.spoof:
        return item.system if item.page == "made" else item.family
    return item.page if item.page in mixture.corpora else "pages"


def _kind(item: Item, mixture: Mixture) -> float:
    if item.page != "made":
        return 1.0
    return mixture.copies if item.system in COPIES else mixture.synthesisers


def fit(chosen: Sequence[Item], bank: Bank, settings: FitSettings) -> Heads:
    """Heads trained on the bank's renderings of `chosen`."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(settings.seed)
    chosen = [i for i in chosen if i.path in bank.place]
    rows = np.array([bank.place[i.path] for i in chosen])
    vectors, replayed = bank.vectors, bank.replayed
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
    heads.eval()
    return heads


def assemble(layer: Patches, heads: Heads) -> Texture:
    """The whole first network, of its patch layer and its heads."""
    net = Texture()
    net.patches, net.heads = layer, heads
    net.eval()
    return net
