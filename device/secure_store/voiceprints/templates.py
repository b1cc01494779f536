"""A voiceprint in the clear: in memory, for as long as one decision takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.secure_store.memory import wipe_array
from device.secure_store.voiceprints.transform import LEAST_DIMENSIONS, MOST_DIMENSIONS, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A voiceprint: unit-norm float32 of shape (n,), by which model, from how many utterances."""

    model: str
    vector: Vector
    utterances: int

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= 128:
            raise ValueError("a template names its embedding model and version")
        size = self.vector.shape[0] if self.vector.ndim == 1 else 0
        if self.vector.dtype != np.float32 or not LEAST_DIMENSIONS <= size <= MOST_DIMENSIONS:
            raise ValueError(
                f"a template is float32 of {LEAST_DIMENSIONS} to {MOST_DIMENSIONS} numbers, not "
                f"{self.vector.dtype} {self.vector.shape}"
            )
        norm = float(np.linalg.norm(self.vector))
        if not abs(norm - 1.0) < 1e-3:  # also false for NaN
            raise ValueError(f"a template has unit norm, not {norm:.4f}")
        if not 1 <= self.utterances <= 1000:
            raise ValueError("a template is made from 1 to 1000 utterances")

    def wipe(self) -> None:
        """Overwrite the voiceprint; call it when the decision has been made."""
        wipe_array(self.vector)

    def __repr__(self) -> str:
        return f"Template(model={self.model!r}, vector=<secret>, utterances={self.utterances})"
