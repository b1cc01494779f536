"""Voiceprints for the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from device.secure_store import DoorVector, Store, Template
from device.secure_store.voiceprints.ledger import Ledger

MODEL = "campplus-192@1"


def voiceprint(seed: int, model: str = MODEL) -> Template:
    """A unit vector that nothing else has: what the store keeps, whatever made it."""
    vector = np.random.default_rng(seed).standard_normal(192).astype(np.float32)
    return Template(model, vector / np.linalg.norm(vector), 3)


def with_door(seed: int, model: str = MODEL, made: str = "rooms 1") -> Template:
    """The same with a door vector, which is nobody else's either."""
    one, door = voiceprint(seed, model), voiceprint(seed + 1_000)
    return Template(one.model, one.vector, one.utterances, DoorVector(made, door.vector))


def same_voice(a: Template, b: Template) -> bool:
    """Whether both are one voiceprint, with the same door vector or none."""
    if a.door is None or b.door is None:
        return a.door is b.door and a.model == b.model and bool(np.allclose(a.vector, b.vector, atol=1e-6))
    same_door = a.door.made == b.door.made and np.allclose(a.door.vector, b.door.vector, atol=1e-6)
    return a.model == b.model and bool(same_door and np.allclose(a.vector, b.vector, atol=1e-6))


@contextmanager
def ledger_of(store: Store) -> Iterator[Ledger]:
    """The ledger of the store's vault, opened beside it."""
    ledger = Ledger(store.folder, store.keystore)
    try:
        yield ledger
    finally:
        ledger.close()
