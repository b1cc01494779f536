"""Lets a network for joins that is there go on learning from further examples."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from device.liveness.joins import DILATIONS, FIRST_TAPS, LEAST, OVERVIEW_BEFORE, TAPS, JoinNetwork
from research.joins.batches import batch
from research.joins.network import summaries
from research.joins.spliced import Example

BATCH, RATE, DECAY = 24, 1.5e-3, 1e-2
JOIN_COUNTS, FRAMES_COUNT = 4.0, 2.0
NOT_LEARNT = ("mean", "scale", "repeated")


class Taps(torch.autograd.Function):
    """Each channel's own convolution over time; a third of the time that torch takes for one with gaps."""

    @staticmethod
    def forward(ctx, seen, taps, apart):
        count, reach = seen.shape[1], TAPS // 2 * apart
        padded = functional.pad(seen, (0, 0, reach, reach))
        made = padded[:, :count] * taps[0]
        for tap in range(1, TAPS):
            made.addcmul_(padded[:, tap * apart : tap * apart + count], taps[tap])
        ctx.save_for_backward(padded, taps)
        ctx.apart = apart
        return made

    @staticmethod
    def backward(ctx, slope):
        padded, taps = ctx.saved_tensors
        count, apart = slope.shape[1], ctx.apart
        of_seen, of_taps = torch.zeros_like(padded), torch.empty_like(taps)
        for tap in range(TAPS):
            there = slice(tap * apart, tap * apart + count)
            of_seen[:, there].addcmul_(slope, taps[tap])
            of_taps[tap] = (padded[:, there] * slope).sum((0, 1))
        reach = TAPS // 2 * apart
        return of_seen[:, reach : reach + count].contiguous(), of_taps, None


class Folded(nn.Module):
    """`JoinNetwork` as it is, without normalisation, so that it can go on learning."""

    def __init__(self, base: JoinNetwork) -> None:
        super().__init__()
        for name in base.__slots__:
            if name not in NOT_LEARNT:
                setattr(self, name, nn.Parameter(torch.from_numpy(getattr(base, name).copy())))
        self.dropout = nn.Dropout(0.1)

    def forward(self, pictures, there, speech):
        """As `research.joins.network.Network`."""
        count = there.shape[1]
        windows = functional.pad(self.dropout(pictures), (0, 0, 1, 1)).unfold(1, FIRST_TAPS, 2)
        seen = functional.relu(windows.reshape(len(there), count, -1) @ self.first + self.first_bias)
        inside = there[:, :, None]
        seen = seen * inside
        for block, apart in enumerate(DILATIONS):
            if block == OVERVIEW_BEFORE:
                frames = there.sum(1, keepdim=True)
                mean = seen.sum(1) / frames
                spread = ((seen - mean[:, None]) ** 2 * inside).sum(1) / frames
                about_all = torch.cat([mean, (spread + 1e-4).sqrt()], 1)
                seen = (seen + (about_all @ self.overview + self.overview_bias)[:, None]) * inside
            mixed = Taps.apply(seen, self.taps[block], apart)
            mixed = functional.linear(mixed, self.mixes[block].T, self.mix_biases[block])
            seen = (seen + functional.relu(mixed)) * inside
        logits = seen @ self.frame + self.frame_bias
        silent = speech < 0.5
        weights = torch.softmax((seen @ self.attention).masked_fill(silent, -1e4), 1)[:, :, None]
        mean = (weights * seen).sum(1)
        spread = ((weights * (seen - mean[:, None]) ** 2).sum(1) + 1e-4).sqrt()
        pooled = self.dropout(torch.cat([mean, spread], 1)) @ self.pooled + self.pooled_bias
        highest = summaries(logits.masked_fill(silent, LEAST), there) @ self.peaks
        return logits, functional.relu(pooled) @ self.last + self.last_bias + highest


def further(
    base: JoinNetwork, chosen: list[Example], epochs: float, seed: int = 1, size: int = BATCH
) -> JoinNetwork:
    """`base`, after so many passes over these examples."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    dice = np.random.default_rng(seed)
    net = Folded(base)
    lengths = np.array([len(one.pictures) for one in chosen])
    batches = max(1, len(chosen) // size)
    steps = max(1, round(epochs * batches))
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.15)
    drawn: list[np.ndarray] = []
    lost = np.zeros(2)
    net.train()
    for step in range(1, steps + 1):
        if not drawn:
            order = np.argsort(lengths * dice.uniform(0.85, 1.15, len(chosen)))
            drawn = [order[at : at + size] for at in range(0, batches * size, size)]
            dice.shuffle(drawn)
        them = [chosen[number] for number in drawn.pop()]
        pictures, there, speech, target, counts = batch(them, base.mean, base.scale, dice)
        logits, all_of_it = net(pictures, there, speech)
        weight = counts * (1 + (JOIN_COUNTS - 1) * target)
        at_frames = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        at_frames = (at_frames * weight).sum() / weight.sum()
        truth = torch.tensor([float(one.spliced) for one in them])
        in_all = functional.binary_cross_entropy_with_logits(all_of_it, truth)
        optimiser.zero_grad(set_to_none=True)
        (FRAMES_COUNT * at_frames + in_all).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        lost += [at_frames.item(), in_all.item()]
        if not step % 100:
            sys.stderr.write(
                f"{step} of {steps}: {lost[0] / 100:.4f} at frames, {lost[1] / 100:.4f} in all\n"
            )
            lost[:] = 0
    parts = {
        name: getattr(base, name) if name in NOT_LEARNT else getattr(net, name).detach().numpy()
        for name in base.__slots__
    }
    return JoinNetwork.from_bytes(packed(parts))


def between(first: JoinNetwork, second: JoinNetwork, share: float) -> JoinNetwork:
    """The mean of a network and of what it became, `share` of it the latter
    (Wortsman et al. 2022)."""
    return JoinNetwork.from_bytes(
        packed(
            {
                name: (1 - share) * getattr(first, name) + share * getattr(second, name)
                for name in first.__slots__
            }
        )
    )


def several(networks: Sequence[JoinNetwork]) -> bytes:
    """As joins.npz holds networks, in half precision."""
    return packed(
        {name: np.stack([getattr(one, name) for one in networks]) for name in JoinNetwork.__slots__}
    )


def packed(parts: dict[str, np.ndarray]) -> bytes:
    """As an .npz holds the parts of one network, in half precision."""
    stream = io.BytesIO()
    np.savez(stream, **{name: part.astype(np.float16) for name, part in parts.items()})
    return stream.getvalue()
