from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.conversation.grouping import APART, cut, distances, linkage


def people(*counts: int, spread: float = 0.05, seed: int = 1) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Unit vectors around as many random directions."""
    dice = np.random.default_rng(seed)
    rows, owners = [], []
    for person, count in enumerate(counts):
        centre = dice.normal(size=192)
        for _ in range(count):
            row = centre / np.linalg.norm(centre) + spread * dice.normal(size=192)
            rows.append(row / np.linalg.norm(row))
            owners.append(person)
    return np.array(rows, dtype=np.float32), owners


def plain(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    count = len(embeddings)
    return distances(embeddings, np.arange(count), np.zeros(count, int))


def test_voices_far_apart_are_groups_of_their_own() -> None:
    embeddings, owners = people(5, 3, 8)
    labels = cut(linkage(plain(embeddings)), len(embeddings), nearer_than=0.6)
    assert labels.tolist() == owners


def test_the_number_of_groups_can_be_given() -> None:
    embeddings, _ = people(5, 3, 8)
    merges = linkage(plain(embeddings))
    for groups in (1, 2, 4, 16):
        assert len(set(cut(merges, 16, groups=groups).tolist())) == groups


def test_average_linkage_is_that_of_its_definition() -> None:
    embeddings, _ = people(4, 4, spread=0.2, seed=5)
    far = plain(embeddings)
    groups = [[at] for at in range(len(far))]
    for merge in linkage(far):
        pairs = [(float(np.mean(far[np.ix_(a, b)])), a, b) for a in groups for b in groups if a is not b]
        least, a, b = min(pairs, key=lambda pair: pair[0])
        assert merge.distance == pytest.approx(least, abs=1e-5)
        groups = [group for group in groups if group not in (a, b)] + [sorted(a + b)]
        assert {merge.first, merge.second} == {a[0], b[0]}


def test_two_voices_of_one_window_are_kept_apart_though_they_sound_alike() -> None:
    embeddings = np.tile(people(1)[0], (4, 1))
    windows, voices = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    far = distances(embeddings, windows, voices)
    assert far[0, 1] == APART
    assert far[0, 2] == pytest.approx(0.0, abs=1e-6)
    assert cut(linkage(far), 4, nearer_than=0.5).tolist() in ([0, 1, 0, 1], [0, 1, 1, 0])


def test_one_piece_is_one_group() -> None:
    assert linkage(np.zeros((1, 1), np.float32)) == []
    assert cut([], 1, nearer_than=0.5).tolist() == [0]
