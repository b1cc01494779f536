"""The detector's second network tells a loudspeaker, in steps that see 0.2 s each.

That is too short for words, prosody or length (Chai 2020 finds the same for pictures), so only the fine
structure of the sound is left to learn; each step also gives its own weight. Trained for synthesis too, it
found none that it was not taught (docs/spoof-log.md, rows 8 to 12). For loudspeakers it errs elsewhere than
the first network does, so the detector takes the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from device.models.spoof.features import BINS

CELL_FRAMES, CELL_BINS = 2, 8
HEARD = 4
"""Pictures used: the first four, all but the shallow level."""
CELL = HEARD * CELL_FRAMES * CELL_BINS
COLUMNS = BINS // CELL_BINS
"""Cells of two frames by eight bins, their numbers stacked as channels."""
WIDTHS = (32, 48, 64)
HIDDEN = 128
LOUDSPEAKER = 1
"""Index of the answer that the detector uses; the other, synthesis, helps training to start."""


class Layer(nn.Module):
    """Convolution and batch normalisation, which export folds into one."""

    def __init__(
        self, inside: int, outside: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, tuple(k // 2 for k in kernel), bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one convolution that equals this layer once training is over."""
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        return self.conv.weight * gain[:, None, None, None], self.norm.bias - self.norm.running_mean * gain


class Residual(nn.Module):
    """Two layers whose answer is added to what they were given."""

    def __init__(self, width: int, first: tuple[int, int], second: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.second = Layer(width, width, first), Layer(width, width, second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Moments(nn.Module):
    """Cells (batch, CELL, steps, COLUMNS) -> (batch, 2): logits of *synthetic* and *a loudspeaker*."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        squeezed, narrow, wide = WIDTHS
        self.squeeze = Layer(CELL, squeezed, (1, 1))
        self.stem = Layer(squeezed, narrow, (3, 3))
        self.fine = Residual(narrow, (1, 3), (3, 1))
        self.down = Layer(narrow, wide, (1, 3), stride=(1, 2))
        self.coarse = Residual(wide, (3, 3), (1, 3))
        self.reduce = Layer(wide, 16, (1, 1))
        self.join = nn.Conv2d(16, HIDDEN, (1, COLUMNS // 2))
        self.logits = nn.Conv2d(HIDDEN, 2, (1, 1))
        self.weight = nn.Conv2d(HIDDEN, 2, (1, 1))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(torch.relu(self.squeeze(x))))
        x = self.coarse(torch.relu(self.down(self.fine(x))))
        x = self.drop(torch.relu(self.reduce(x)))
        x = self.drop(torch.relu(self.join(x)))
        logits, weight = self.logits(x)[..., 0].float(), self.weight(x)[..., 0].float()
        return (logits * torch.softmax(weight, dim=2)).sum(dim=2)


def cells(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pictures (HEARD or more, BINS, frames) as `Moments` takes them: (CELL, steps, COLUMNS)."""
    steps = pictures.shape[2] // CELL_FRAMES
    shape = (HEARD, COLUMNS, CELL_BINS, steps, CELL_FRAMES)
    stacked = pictures[:HEARD, :, : steps * CELL_FRAMES].reshape(shape).transpose(0, 4, 2, 3, 1)
    return np.ascontiguousarray(stacked).reshape(CELL, steps, COLUMNS)


def loudspeaker_scores(net: Moments, features: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """Scores (n,), higher for no loudspeaker, of `features`, (PICTURES, BINS, frames) each."""
    with torch.inference_mode():
        return np.array([-float(net(torch.from_numpy(cells(f))[None])[0, LOUDSPEAKER]) for f in features])
