"""The protected template: same angles, no link between two of them."""

from __future__ import annotations

import numpy as np

from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.transform import DIMENSIONS, Rotation
from tests.device.secure_store.people import voiceprint
from tests.kept import is_overwritten

PINNED = np.array([0.1669503, 0.0124779, -0.0032386, 0.0180918])


def protected(seed: int, secret: bytes) -> np.ndarray:
    with SecretBytes.copy_of(secret) as key, Rotation(key) as rotation:
        return rotation.protect(voiceprint(seed).vector)


def test_scores_are_the_same_in_the_protected_domain() -> None:
    with SecretBytes.random(32) as key, Rotation(key) as rotation:
        people = [voiceprint(i).vector for i in range(20)]
        hidden = [rotation.protect(v) for v in people]
        plain = np.array([[a @ b for b in people] for a in people])
        assert np.abs(np.array([[a @ b for b in hidden] for a in hidden]) - plain).max() < 1e-6


def test_the_rotation_is_orthogonal_and_its_inverse_is_exact() -> None:
    with SecretBytes.random(32) as key, Rotation(key) as rotation:
        whole = np.array([rotation.protect(e) for e in np.eye(DIMENSIONS, dtype=np.float32)], np.float64)
        assert np.abs(whole @ whole.T - np.eye(DIMENSIONS)).max() < 1e-6
        vector = voiceprint(1).vector
        assert np.abs(rotation.recover(rotation.protect(vector)) - vector).max() < 1e-6


def test_the_same_secret_gives_the_same_rotation_on_every_machine() -> None:
    """Pinned: a change of generator or order would make every stored voiceprint unreadable."""
    first = protected(1, bytes(range(32)))
    assert np.allclose(first, protected(1, bytes(range(32))), atol=1e-7)
    assert np.allclose(first[:4], PINNED, atol=1e-6)


def test_two_templates_of_one_person_are_like_two_strangers() -> None:
    """Cosines over many keys follow those of independent directions: mean 0, deviation 1/sqrt(192)."""
    dice = np.random.default_rng(1)
    hidden = np.array([protected(1, dice.bytes(32)) for _ in range(300)])
    cosines = (hidden @ hidden.T)[np.triu_indices(300, 1)] * np.sqrt(DIMENSIONS)
    assert abs(cosines.mean()) < 0.02
    assert abs(cosines.std() - 1.0) < 0.02
    assert np.abs(hidden.mean(0)).max() * np.sqrt(300 * DIMENSIONS) < 5.0


def test_a_coordinates_rank_does_not_survive() -> None:
    """What sign flips and permutations leave behind: the sorted magnitudes of the original."""
    original = np.sort(np.abs(voiceprint(1).vector))
    stranger = np.sort(np.abs(voiceprint(2).vector))
    hidden = np.sort(np.abs(protected(1, b"k" * 32)))
    assert np.abs(hidden - original).max() > 0.3 * np.abs(hidden - stranger).max()


def test_a_secret_rotation_is_wiped_and_not_printed() -> None:
    with SecretBytes.random(32) as key:
        with Rotation(key) as rotation:
            assert repr(rotation) == "<secret rotation>"
            assert not is_overwritten(rotation)
        assert is_overwritten(rotation)
