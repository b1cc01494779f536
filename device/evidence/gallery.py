"""Open-set identification: the person whose voiceprint fits best, when nobody was claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError

Embedding = npt.NDArray[np.float32]
Compare = Callable[[Embedding, Embedding], float]
"""The calibrated LLR that two unit embeddings are one voice."""


@dataclass(frozen=True, slots=True)
class Identification:
    """The person whose voiceprint fits best, out of `among`."""

    uid: str
    llr: float
    runner_up_llr: float
    among: int

    def threshold_llr(self, verification_llr: float) -> float:
        """One comparison's threshold raised by ln N.

        The chance that any of N strangers' templates fits by accident is at most N times that of one, so the
        false acceptance rate at the door stays what it was.
        """
        return verification_llr + math.log(self.among)


class Gallery:
    """Every voiceprint that may pass a door, as one matrix. Open set: the best fit can still be nobody."""

    def __init__(self, templates: Mapping[str, Embedding]) -> None:
        """`templates`: uid to unit-norm float32 of shape (d,). Raises DeviceError when they do not fit
        together.
        """
        self._uids = tuple(templates)
        rows = [np.asarray(template, dtype=np.float32) for template in templates.values()]
        if any(row.ndim != 1 or row.shape != rows[0].shape for row in rows):
            raise DeviceError("voiceprints of different models cannot be searched together; enrol again")
        self._matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        norms = np.linalg.norm(self._matrix, axis=1)
        if not np.all(np.abs(norms - 1.0) < 1e-3):
            raise DeviceError("a voiceprint is not of unit length; it was damaged or is of another model")

    def __len__(self) -> int:
        return len(self._uids)

    def identify(self, probe: Embedding, llr: Compare) -> Identification | None:
        """The best fit to `probe` (unit norm); None when there is nobody to compare with or no usable
        probe.
        """
        if not self._uids or probe.shape != self._matrix.shape[1:] or not np.all(np.isfinite(probe)):
            return None
        scores = self._matrix @ probe
        best = int(scores.argmax())
        runner_up_llr = -math.inf
        if len(scores) > 1:
            others = scores.copy()
            others[best] = -np.inf
            runner_up_llr = llr(probe, self._matrix[int(others.argmax())])
        return Identification(self._uids[best], llr(probe, self._matrix[best]), runner_up_llr, len(scores))

    def wipe(self) -> None:
        """Overwrite the voiceprints."""
        self._matrix[:] = 0.0


class Galleries:
    """People searched together who enrolled by different speaker models: each is compared by their own."""

    def __init__(self, by_model: Mapping[str, Gallery]) -> None:
        self._by_model = {model: people for model, people in by_model.items() if len(people)}

    def __len__(self) -> int:
        return sum(map(len, self._by_model.values()))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._by_model)

    def identify(self, heard: Mapping[str, tuple[Embedding, Compare]]) -> Identification | None:
        """As a gallery does; `heard` has the probe and the comparison for each model."""
        every = [people.identify(*heard[model]) for model, people in self._by_model.items()]
        found = sorted((one for one in every if one is not None), key=lambda one: -one.llr)
        if not found:
            return None
        best, *others = found
        runner_up_llr = max(best.runner_up_llr, *(one.llr for one in others), -math.inf)
        return Identification(best.uid, best.llr, runner_up_llr, sum(one.among for one in found))

    def wipe(self) -> None:
        """Overwrite the voiceprints."""
        for people in self._by_model.values():
            people.wipe()
