"""Which pieces are one voice: average linkage over cosines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.intp]
APART = 2.0
"""The distance of two pieces that are surely not one person: they were told apart in the same window."""
_FAR = np.float32(np.inf)


@dataclass(frozen=True, slots=True)
class Merge:
    """Two groups, each named by its first piece, became one at this distance."""

    distance: float
    first: int
    second: int


def distances(embeddings: Matrix, windows: npt.NDArray[Any], voices: npt.NDArray[Any]) -> Matrix:
    """1 - cosine of unit embeddings (n, d); APART for two voices of one window."""
    found = np.float32(1.0) - embeddings @ embeddings.T
    found[(windows[:, None] == windows[None, :]) & (voices[:, None] != voices[None, :])] = APART
    return np.asarray(found, dtype=np.float32)


def linkage(given: Matrix) -> list[Merge]:
    """Every merge of average linkage over a matrix of distances (n, n), the nearest first. Quadratic in
    memory and, but for rare ties, in time: each group remembers its nearest one."""
    far = given.copy()
    count = len(far)
    np.fill_diagonal(far, _FAR)
    sizes = np.ones(count)
    nearest = far.argmin(axis=1) if count > 1 else np.zeros(count, np.intp)
    least = far[np.arange(count), nearest] if count > 1 else np.full(count, _FAR)
    merges = []
    for _ in range(count - 1):
        one = int(least.argmin())
        two = int(nearest[one])
        one, two = min(one, two), max(one, two)
        merges.append(Merge(float(far[one, two]), one, two))
        joined = (sizes[one] * far[one] + sizes[two] * far[two]) / (sizes[one] + sizes[two])
        sizes[one] += sizes[two]
        far[one] = far[:, one] = joined
        far[one, one] = far[two] = far[:, two] = _FAR
        least[two] = _FAR
        stale = np.flatnonzero(((nearest == one) | (nearest == two)) & (least < _FAR))
        closer = far[:, one] < least
        nearest[closer], least[closer] = one, far[closer, one]
        for row in {one, *stale.tolist()}:
            nearest[row] = far[row].argmin()
            least[row] = far[row, nearest[row]]
        least[two] = _FAR
    return merges


def cut(merges: Sequence[Merge], count: int, *, nearer_than: float = 0.0, groups: int = 0) -> Labels:
    """The group of each of `count` pieces, 0 up in order of first appearance: after every merge nearer
    than given, or with `groups` after as many merges as leave that number."""
    owner = np.arange(count)
    for number, merge in enumerate(merges):
        if (count - number <= groups) if groups else (merge.distance >= nearer_than):
            break
        owner[owner == merge.second] = merge.first
    _, first, labels = np.unique(owner, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.intp)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[labels.reshape(-1)])


def centres(embeddings: Matrix, weights: npt.NDArray[Any], labels: Labels, groups: int) -> Matrix:
    """The mean direction of each group, (groups, d)."""
    found = np.zeros((groups, embeddings.shape[1]), np.float64)
    np.add.at(found, labels, embeddings * weights[:, None])
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(length, 1e-9), dtype=np.float32)
