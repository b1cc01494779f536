"""Learns the first network's patch layer, without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.features import SHALLOW, spoof_features
from quantize.train.networks.network import ATOMS, PATCH, Patches
from quantize.train.speech.bank import PATCHES

PATCH_PAGES = ("an4", "asterisk")
"""People whom no fold holds out."""


def learn(items, augment, work: Path) -> None:
    """Learn the patch layer from people among `items` and keep it in WORK, unless it is there."""
    if (work / PATCHES).exists():
        return
    rng = np.random.default_rng(3)
    heard = [i for i in items if i.page in PATCH_PAGES and i.part == "train"]
    chosen = [heard[i] for i in rng.permutation(len(heard))[:250]]
    features = [spoof_features(augment(i, 2 * SAMPLE_RATE_HZ, rng)[0])[SHALLOW] for i in chosen]
    torch.save(learn_patches(features, rng).state_dict(), work / PATCHES)


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
