"""Voiceprints for the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from device.secure_store import Store, Template
from device.secure_store.voiceprints.ledger import Ledger

MODEL = "campplus-192@1"


def voiceprint(seed: int, model: str = MODEL) -> Template:
    """A unit vector that nothing else has: what the store keeps, whatever made it."""
    vector = np.random.default_rng(seed).standard_normal(192).astype(np.float32)
    return Template(model, vector / np.linalg.norm(vector), 3)


def same_voice(a: Template, b: Template) -> bool:
    return a.model == b.model and bool(np.allclose(a.vector, b.vector, atol=1e-6))


@contextmanager
def ledger_of(store: Store) -> Iterator[Ledger]:
    """The ledger of the store's vault, opened beside it."""
    ledger = Ledger(store.folder, store.keystore)
    try:
        yield ledger
    finally:
        ledger.close()
