"""The network for joins while it learns, and as `device/liveness/joins.py` has it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from device.liveness.join_pictures import FEATURES
from device.liveness.joins import (
    DILATIONS,
    FIRST_TAPS,
    LEAST,
    OVERVIEW_BEFORE,
    PEAK_FRAMES,
    POOLED_UNITS,
    TAPS,
    UNITS,
)


class Network(nn.Module):
    """As `JoinNetwork`, with normalisation over the batch and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(FEATURES, UNITS, FIRST_TAPS, 2, 1)
        self.first_norm = nn.BatchNorm1d(UNITS)
        self.taps = nn.ModuleList(
            nn.Conv1d(UNITS, UNITS, TAPS, padding=d * (TAPS // 2), dilation=d, groups=UNITS, bias=False)
            for d in DILATIONS
        )
        self.mixes = nn.ModuleList(nn.Conv1d(UNITS, UNITS, 1, bias=False) for _ in DILATIONS)
        self.norms = nn.ModuleList(nn.BatchNorm1d(UNITS) for _ in DILATIONS)
        self.overview = nn.Linear(2 * UNITS, UNITS)
        self.frame, self.attention = nn.Linear(UNITS, 1), nn.Linear(UNITS, 1)
        self.pooled, self.last = nn.Linear(2 * UNITS, POOLED_UNITS), nn.Linear(POOLED_UNITS, 1)
        self.peaks = nn.Parameter(torch.tensor([0.3, 0.1, 0.1, 0.1]))
        self.dropout = nn.Dropout(0.1)

    def forward(self, pictures, there, speech):
        """(logit of a join at each frame, of the whole) from scaled pictures (batch, 2 * time, FEATURES);
        `there` and `speech` are 1 where a frame is no padding, and where it is speech.
        """
        pictures = pictures.transpose(1, 2)
        seen = functional.relu(self.first_norm(self.first(self.dropout(pictures)))) * there[:, None]
        for block in range(len(DILATIONS)):
            if block == OVERVIEW_BEFORE:
                count = there.sum(1, keepdim=True)
                mean = seen.sum(2) / count
                spread = ((seen - mean[:, :, None]) ** 2 * there[:, None]).sum(2) / count
                about = torch.cat([mean, (spread + 1e-4).sqrt()], 1)
                seen = (seen + self.overview(about)[:, :, None]) * there[:, None]
            mixed = self.norms[block](self.mixes[block](self.taps[block](seen)))
            seen = (seen + functional.relu(mixed)) * there[:, None]
        seen = seen.transpose(1, 2)
        logits = self.frame(seen)[:, :, 0]
        silent = speech < 0.5
        weights = torch.softmax(self.attention(seen)[:, :, 0].masked_fill(silent, -1e4), 1)[:, :, None]
        mean = (weights * seen).sum(1)
        spread = ((weights * (seen - mean[:, None]) ** 2).sum(1) + 1e-4).sqrt()
        pooled = functional.relu(self.pooled(self.dropout(torch.cat([mean, spread], 1))))
        whole = self.last(pooled)[:, 0] + summaries(logits.masked_fill(silent, LEAST), there) @ self.peaks
        return logits, whole

    def parts(self, mean, scale) -> dict[str, np.ndarray]:
        """As `JoinNetwork` has them, in half precision, normalisations folded in, but `repeated`."""
        self.eval()
        first, first_bias = _folded(self.first.weight, self.first.bias, self.first_norm)
        mixes = [
            _folded(mix.weight, torch.zeros(UNITS), norm)
            for mix, norm in zip(self.mixes, self.norms, strict=True)
        ]
        made = {
            "mean": mean,
            "scale": scale,
            "first": first.reshape(UNITS, -1).T,
            "first_bias": first_bias,
            "taps": torch.stack([taps.weight[:, 0].T for taps in self.taps]),
            "mixes": torch.stack([weight[:, :, 0].T for weight, _ in mixes]),
            "mix_biases": torch.stack([bias for _, bias in mixes]),
            "overview": self.overview.weight.T,
            "overview_bias": self.overview.bias,
            "frame": self.frame.weight[0],
            "frame_bias": self.frame.bias,
            "attention": self.attention.weight[0],
            "pooled": self.pooled.weight.T,
            "pooled_bias": self.pooled.bias,
            "last": self.last.weight[0],
            "last_bias": self.last.bias,
            "peaks": self.peaks,
            "repeated": np.zeros(1),
        }
        return {
            name: (part.detach().numpy() if isinstance(part, torch.Tensor) else part).astype(np.float16)
            for name, part in made.items()
        }


def _folded(weight, bias, norm):
    """(weight, bias) of a convolution with the normalisation that comes after it."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * factor[:, None, None], (bias - norm.running_mean) * factor + norm.bias


def summaries(logits, there):
    """As `device.liveness.joins.summaries`: (batch, 4)."""
    count = (there.sum(1) / PEAK_FRAMES).ceil()
    padded = functional.pad(logits, (0, -logits.shape[1] % PEAK_FRAMES), value=LEAST)
    peaks = functional.max_pool1d(padded[:, None], PEAK_FRAMES)[:, 0].clamp(LEAST, -LEAST)
    top = functional.pad(torch.sort(peaks, 1, descending=True)[0], (0, 5), value=LEAST)
    often = 3.0 * functional.softplus(peaks).sum(1) / count
    return torch.stack([top[:, 0], top[:, 1:3].mean(1), top[:, 3:5].mean(1), often], 1)
