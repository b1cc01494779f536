"""A voiceprint in the clear: in memory, for as long as one decision takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.secure_store.memory import wipe_array
from device.secure_store.voiceprints.transform import LEAST_DIMENSIONS, MOST_DIMENSIONS, Vector


@dataclass(frozen=True, slots=True, eq=False)
class DoorVector:
    """What the same person sounds like in rooms and noise: unit-norm float32 of shape (n,)."""

    made: str
    """How its copies were made: one of another making is not compared with."""
    vector: Vector

    def __post_init__(self) -> None:
        if not 0 < len(self.made) <= 64:
            raise ValueError("a door vector says how it was made")
        check_vector(self.vector)

    def wipe(self) -> None:
        wipe_array(self.vector)

    def __repr__(self) -> str:
        return f"DoorVector(made={self.made!r}, vector=<secret>)"


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A voiceprint: unit-norm float32 of shape (n,), by which model, from how many utterances."""

    model: str
    vector: Vector
    utterances: int
    door: DoorVector | None = None
    """Made at enrolment; None in voiceprints of versions that made none."""

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= 128:
            raise ValueError("a template names its embedding model and version")
        check_vector(self.vector)
        if self.door is not None and self.door.vector.shape != self.vector.shape:
            raise ValueError("both vectors of a template are of one model")
        if not 1 <= self.utterances <= 1000:
            raise ValueError("a template is made from 1 to 1000 utterances")

    def wipe(self) -> None:
        """Overwrite the voiceprint; call it when the decision has been made."""
        wipe_array(self.vector)
        if self.door is not None:
            self.door.wipe()

    def __repr__(self) -> str:
        return f"Template(model={self.model!r}, vector=<secret>, utterances={self.utterances})"


def check_vector(vector: Vector) -> None:
    """Raises ValueError for anything but a unit vector of a size that an embedding may have."""
    size = vector.shape[0] if vector.ndim == 1 else 0
    if vector.dtype != np.float32 or not LEAST_DIMENSIONS <= size <= MOST_DIMENSIONS:
        raise ValueError(
            f"a template is float32 of {LEAST_DIMENSIONS} to {MOST_DIMENSIONS} numbers, not "
            f"{vector.dtype} {vector.shape}"
        )
    norm = float(np.linalg.norm(vector))
    if not abs(norm - 1.0) < 1e-3:  # also false for NaN
        raise ValueError(f"a template has unit norm, not {norm:.4f}")
