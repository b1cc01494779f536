"""The voiceprint that grows beside the one in use, by the model that is to follow: one utterance a day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.secure_store.memory import wipe_array
from device.secure_store.voiceprints.templates import Template
from device.secure_store.voiceprints.transform import LEAST_DIMENSIONS, MOST_DIMENSIONS

MOST_UTTERANCES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Growing:
    """`days` are numbers of UTC days since 1970, rising; `vectors` are float32 of shape (n, size), unit rows.

    Once it is `ready` it is a voiceprint, and nothing is added any more.
    """

    model: str
    days: tuple[int, ...]
    vectors: npt.NDArray[np.float32]
    ready: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= 128:
            raise ValueError("a growing voiceprint names its embedding model and version")
        if not 1 <= len(self.days) <= MOST_UTTERANCES or list(self.days) != sorted({*self.days}):
            raise ValueError(f"a voiceprint grows from 1 to {MOST_UTTERANCES} utterances, one a day")
        rows, size = self.vectors.shape if self.vectors.ndim == 2 else (0, 0)
        if rows != len(self.days) or not LEAST_DIMENSIONS <= size <= MOST_DIMENSIONS:
            raise ValueError("a growing voiceprint has one embedding for each of its days")
        if self.vectors.dtype != np.float32 or not np.all(
            np.abs(np.linalg.norm(self.vectors, axis=1) - 1.0) < 1e-3
        ):
            raise ValueError("a growing voiceprint is made of unit embeddings")

    def template(self) -> Template:
        """Their mean direction."""
        mean = self.vectors.mean(axis=0)
        made = (mean / np.linalg.norm(mean)).astype(np.float32)
        wipe_array(mean)
        return Template(self.model, made, len(self.days))

    def wipe(self) -> None:
        wipe_array(self.vectors)

    def __repr__(self) -> str:
        state = "ready" if self.ready else "growing"
        return f"Growing(model={self.model!r}, days={len(self.days)}, vectors=<secret>, {state})"
