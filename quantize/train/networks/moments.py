"""The detector's second network: is this heard through a loudspeaker? No answer of it sees more than 0.2 s.

Too short for words, prosody or length (Chai 2020 finds the same for pictures), so only what the sound is made
of is left to learn; each step also says how much it is to count. It was meant for synthesis too, and did not
hear any that it was not taught (docs/spoof-log.md, rows 8 to 12); through a loudspeaker it errs elsewhere
than the first network does, so both are heard.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from device.models.spoof.features import BINS

CELL_FRAMES, CELL_BINS = 2, 8
HEARD = 4
"""Of the pictures: the first, all but the shallow level."""
CELL = HEARD * CELL_FRAMES * CELL_BINS
COLUMNS = BINS // CELL_BINS
"""Cells of two frames by eight bins, their numbers stacked as channels."""
WIDTHS = (32, 48, 64)
HIDDEN = 128
LOUDSPEAKER = 1
"""Of the two answers, the one that the detector uses; the other, synthesis, helps training to start."""


class Layer(nn.Module):
    """Convolution and batch normalisation, which export folds into one."""

    def __init__(self, inside, outside, kernel, stride=(1, 1)):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, tuple(k // 2 for k in kernel), bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x):
        return self.norm(self.conv(x))

    def folded(self):
        """Weight and bias of the one convolution that this layer is when it no longer learns."""
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        return self.conv.weight * gain[:, None, None, None], self.norm.bias - self.norm.running_mean * gain


class Residual(nn.Module):
    def __init__(self, width, first, second):
        super().__init__()
        self.first, self.second = Layer(width, width, first), Layer(width, width, second)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Moments(nn.Module):
    """Cells (batch, CELL, steps, COLUMNS) -> (batch, 2): logits of *synthetic* and *a loudspeaker*."""

    def __init__(self, dropout=0.2):
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

    def forward(self, x):
        x = torch.relu(self.stem(torch.relu(self.squeeze(x))))
        x = self.coarse(torch.relu(self.down(self.fine(x))))
        x = self.drop(torch.relu(self.reduce(x)))
        x = self.drop(torch.relu(self.join(x)))
        logits, weight = self.logits(x)[..., 0].float(), self.weight(x)[..., 0].float()
        return (logits * torch.softmax(weight, dim=2)).sum(dim=2)


def cells(pictures: np.ndarray) -> np.ndarray:
    """Pictures (HEARD or more, BINS, frames) as `Moments` takes them: (CELL, steps, COLUMNS)."""
    steps = pictures.shape[2] // CELL_FRAMES
    shape = (HEARD, COLUMNS, CELL_BINS, steps, CELL_FRAMES)
    stacked = pictures[:HEARD, :, : steps * CELL_FRAMES].reshape(shape).transpose(0, 4, 2, 3, 1)
    return np.ascontiguousarray(stacked).reshape(CELL, steps, COLUMNS)


def loudspeaker_scores(net: Moments, features) -> np.ndarray:
    """How little each of `features`, (PICTURES, BINS, frames) each, sounds of a loudspeaker: shape (n,)."""
    with torch.inference_mode():
        return np.array([-float(net(torch.from_numpy(cells(f))[None])[0, LOUDSPEAKER]) for f in features])
