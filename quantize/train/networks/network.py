"""The detector's first network: a dictionary of spectral patches, pooled in bands, and a few small heads.

The patch layer is learned without labels (k-means on whitened patches, Coates and Ng 2012), the heads with
labels. Pooled patches of a rendering are worked out once and serve every head, so training takes minutes on
two busy cores; a deeper network trained end to end did not get far enough (docs/spoof-log.md).

It alone answers for synthesis; for loudspeakers the detector takes the mean with that of `moments.py`.
Input (batch, 1, 224, frames), the shallow level picture;
output (batch, 2): logits of *synthetic* and of *through a loudspeaker*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from device.models.spoof.features import SHALLOW

PATCH = (16, 5)
STRIDE = (8, 2)
ATOMS = 64
POSITIONS = 27
BANDS = 9
POOLED = 2 * ATOMS * BANDS


class Patches(nn.Module):
    """(batch, 1, 224, frames) -> (batch, POOLED): mean and spread of every atom in every band."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, ATOMS, PATCH, STRIDE)
        self.bands = nn.AvgPool2d((POSITIONS // BANDS, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        x = self.bands(x)
        mean = x.mean(dim=3)
        spread = torch.sqrt(torch.relu((x * x).mean(dim=3) - mean * mean) + 1e-5)
        return torch.cat([mean.flatten(1), spread.flatten(1)], dim=1)


class Heads(nn.Module):
    """(batch, POOLED) -> (batch, 2): the mean of `count` small networks that differ in their start."""

    def __init__(self, count: int = 5, hidden: int = 48, dropout: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(POOLED))
        self.register_buffer("spread", torch.ones(POOLED))
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.ModuleList(nn.Linear(POOLED, hidden) for _ in range(count))
        self.out = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(count))

    def each(self, pooled: torch.Tensor) -> torch.Tensor:
        """The logits of every network, (count, batch, 2)."""
        x = torch.clamp((pooled - self.centre) / self.spread, -4.0, 4.0)
        return torch.stack(
            [
                out(self.drop(torch.relu(hidden(self.drop(x)))))
                for hidden, out in zip(self.hidden, self.out, strict=True)
            ]
        )

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.each(pooled).mean(dim=0)


class Texture(nn.Module):
    """The whole first network."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.heads = Patches(), Heads()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads(self.patches(x))


def texture_scores(net: Texture, features: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Scores (n, 2) of both heads, higher for bona fide, of `features`, (PICTURES, BINS, frames) each."""
    with torch.inference_mode():
        return np.array([-net(torch.from_numpy(f[None, SHALLOW : SHALLOW + 1]))[0].numpy() for f in features])
