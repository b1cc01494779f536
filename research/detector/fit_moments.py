"""Trains the second network on short cuts of stored renderings. One thread; minutes, not hours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track
from torch.nn import functional

from quantize.train.fitting.fit import Mixture, weights
from quantize.train.networks.moments import CELL_FRAMES, Moments, cells
from research.detector.pictures import Pictures

MIXTURE = Mixture(
    {"libri": 0.2, "so762": 0.15, "an4": 0.12, "asterisk": 0.04, "fillets": 0.03, "hedgewars": 0.01},
    rest=0.45,
    copies=1.5,
    synthesisers=0.3,
)


@dataclass(frozen=True, slots=True)
class MomentsSettings:
    steps: int = 450
    batch: int = 64
    frames: int = 56
    rate: float = 2e-3
    weight_decay: float = 0.02
    smoothing: float = 0.03
    noise: float = 0.3
    seed: int = 1


def fit_moments(chosen, bank: Pictures, settings: MomentsSettings = MomentsSettings()) -> Moments:
    """The network after hearing `chosen` items in their renderings: the moving average of its weights."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(settings.seed)
    places, starts = bank.places(), bank.starts
    heard = [i for i in chosen if i.path in places]
    odds = weights(heard, MIXTURE)
    spoof = np.array([float(i.spoof) for i in heard])
    net = Moments().to(memory_format=torch.channels_last)
    average = {k: v.clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=settings.steps, pct_start=0.15
    )
    net.train()
    for step in track(range(settings.steps), description="training moments"):
        drawn = rng.choice(len(heard), settings.batch, p=odds)
        at = [places[heard[k].path][int(rng.integers(len(places[heard[k].path])))] for k in drawn]
        x = np.stack([_cut(bank, starts, one, settings, rng) for one in at])
        loud = settings.noise * rng.random((len(x), 1, 1, 1), dtype=np.float32)
        x += rng.standard_normal(x.shape, dtype=np.float32) * loud
        targets = np.stack([spoof[drawn], bank.replayed[at].astype(float)], axis=1)
        soft = torch.from_numpy(targets * (1 - 2 * settings.smoothing) + settings.smoothing).float()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(torch.from_numpy(x).to(memory_format=torch.channels_last))
        loss = 2 * functional.binary_cross_entropy_with_logits(logits.float(), soft)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        _follow(average, net, step)
    net.load_state_dict(average)
    return net.eval()


def _cut(bank: Pictures, starts, index, settings: MomentsSettings, rng):
    """Cells of a short piece of one rendering, sometimes with a few columns blanked."""
    length = int(bank.lengths[index])
    first = int(rng.integers(max(1, length - settings.frames + 1)))
    x = cells(bank.features(starts[index] + first, min(settings.frames, length - first), index))
    wanted = settings.frames // CELL_FRAMES
    if x.shape[1] < wanted:
        x = np.tile(x, (1, -(-wanted // x.shape[1]), 1))[:, :wanted]
    if rng.random() < 0.5:
        width = int(rng.integers(1, 6))
        column = int(rng.integers(x.shape[2] - width))
        x[:, :, column : column + width] = 0.0
    return x


def _follow(average, net, step) -> None:
    decay = min(0.998, (step + 1) / (step + 10))
    for name, value in net.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].mul_(decay).add_(value, alpha=1 - decay)
        else:
            average[name].copy_(value)
