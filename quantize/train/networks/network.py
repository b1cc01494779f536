"""The detector's first network: a dictionary of spectral patches, pooled in bands, and a few small heads.

The patch layer is learned without labels (k-means on whitened patches, Coates and Ng 2012), the heads with
labels. Pooled patches of a rendering are worked out once and then serve every fold and every head, so that
the whole rig runs in minutes on two busy cores, where training a deeper network end to end did not get far
enough (see docs/spoof-log.md).

It alone answers for synthesis; for loudspeakers it is heard beside `moments.py`.
Input (batch, 1, 224, frames), the shallow level picture;
output (batch, 2): logits of *synthetic* and of *through a loudspeaker*.
"""

from __future__ import annotations

import numpy as np
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

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, ATOMS, PATCH, STRIDE)
        self.bands = nn.AvgPool2d((POSITIONS // BANDS, 1))

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = self.bands(x)
        mean = x.mean(dim=3)
        spread = torch.sqrt(torch.relu((x * x).mean(dim=3) - mean * mean) + 1e-5)
        return torch.cat([mean.flatten(1), spread.flatten(1)], dim=1)


class Heads(nn.Module):
    """(batch, POOLED) -> (batch, 2): the mean of `count` small networks that differ in their start."""

    def __init__(self, count=5, hidden=48, dropout=0.5):
        super().__init__()
        self.register_buffer("centre", torch.zeros(POOLED))
        self.register_buffer("spread", torch.ones(POOLED))
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.ModuleList(nn.Linear(POOLED, hidden) for _ in range(count))
        self.out = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(count))

    def each(self, pooled):
        x = torch.clamp((pooled - self.centre) / self.spread, -4.0, 4.0)
        return torch.stack(
            [
                out(self.drop(torch.relu(hidden(self.drop(x)))))
                for hidden, out in zip(self.hidden, self.out, strict=True)
            ]
        )

    def forward(self, pooled):
        return self.each(pooled).mean(dim=0)


class Texture(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.heads = Patches(), Heads()

    def forward(self, x):
        return self.heads(self.patches(x))


def texture_scores(net: Texture, features) -> np.ndarray:
    """Bona-fide-positive scores of both heads for `features`, (PICTURES, BINS, frames) each: shape (n, 2)."""
    with torch.inference_mode():
        return np.array([-net(torch.from_numpy(f[None, SHALLOW : SHALLOW + 1]))[0].numpy() for f in features])


def learn_patches(features, rng, samples=30_000, rounds=12) -> Patches:
    """The patch layer from features (224, frames): whitened spherical k-means, active on 40 % of them."""
    height, width = PATCH
    cut = []
    each = -(-samples // len(features))
    for one in features:
        for _ in range(each):
            row = int(rng.integers(0, one.shape[0] - height + 1))
            column = int(rng.integers(0, one.shape[1] - width + 1))
            cut.append(one[row : row + height, column : column + width].astype(np.float32).ravel())
    x = np.stack(cut)
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((x - mean).T))
    whiten = (vectors / np.sqrt(values + 0.02 * values.max())) @ vectors.T
    z = (x - mean) @ whiten
    z /= np.linalg.norm(z, axis=1, keepdims=True) + 1e-6
    atoms = z[rng.permutation(len(z))[:ATOMS]]
    for _ in range(rounds):
        nearest = (z @ atoms.T).argmax(axis=1)
        for k in range(ATOMS):
            members = z[nearest == k]
            if len(members):
                atoms[k] = members.mean(axis=0)
        atoms /= np.linalg.norm(atoms, axis=1, keepdims=True) + 1e-9
    weight = atoms @ whiten.T
    answer = (x - mean) @ weight.T
    bias = -(weight @ mean) - np.quantile(answer, 0.6, axis=0)
    layer = Patches()
    with torch.no_grad():
        layer.conv.weight.copy_(torch.from_numpy(weight.reshape(ATOMS, 1, height, width).astype(np.float32)))
        layer.conv.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
    return layer.eval()
