"""Open-set identification: the person whose voiceprint fits best, when nobody was claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError
from device.evidence.voice.phrases import Shift, shifted

Embedding = npt.NDArray[np.float32]
Compare = Callable[[Embedding, Embedding], float]
"""The calibrated LLR that two unit embeddings are one voice."""


NO_SHIFT = Shift()


@dataclass(frozen=True, slots=True)
class Identification:
    """The person whose voiceprint fits best, out of `among`."""

    uid: str
    llr: float
    runner_up_llr: float
    among: int

    def threshold_llr(self, verification_llr: float) -> float:
        """One comparison's threshold raised by ln N: the chance that any of N strangers' templates fits by
        accident is at most N times that of one, so the false acceptance rate stays what it was."""
        return verification_llr + math.log(self.among)


class Gallery:
    """Every voiceprint that may pass a door, as matrices. Open set: the best fit can still be nobody."""

    def __init__(
        self,
        templates: Mapping[str, Embedding],
        doors: Mapping[str, Embedding] | None = None,
        shifts: Mapping[str, Shift] | None = None,
    ) -> None:
        """`templates`: uid to unit-norm float32 of shape (d,); `doors`: the door vectors of those who have
        one; `shifts`: what is added to somebody's LLRs, where it is not nothing. Raises DeviceError when they
        do not fit together.
        """
        doors, shifts = doors or {}, shifts or {}
        # People of one kind lie together: their rows are looked at where they lie, and never copied.
        kinds = {uid: (uid in doors, shifts.get(uid, NO_SHIFT)) for uid in templates}
        self._uids = tuple(
            sorted(templates, key=lambda uid: (kinds[uid][0], kinds[uid][1].enrolled, kinds[uid][1].door))
        )
        self._matrix = _matrix([templates[uid] for uid in self._uids])
        with_door = [uid for uid in self._uids if uid in doors]
        self._doors = _matrix([doors[uid] for uid in with_door])
        if with_door and self._doors.shape[1] != self._matrix.shape[1]:
            raise DeviceError("voiceprints of different models cannot be searched together; enrol again")
        self._without = len(templates) - len(with_door)
        ends = [at for at, uid in enumerate(self._uids) if at and kinds[uid] != kinds[self._uids[at - 1]]]
        self._kinds = [
            (slice(start, stop), *kinds[self._uids[start]])
            for start, stop in zip([0, *ends], [*ends, len(self._uids)], strict=True)
            if start < stop
        ]

    def __len__(self) -> int:
        return len(self._uids)

    def identify(self, probe: Embedding, llr: Compare, door: Compare | None = None) -> Identification | None:
        """The best fit to `probe` (unit norm); None when there is nobody to compare with or no usable
        probe. With `door`, those who have a door vector are compared by that.
        """
        if not self._uids or probe.shape != self._matrix.shape[1:] or not np.all(np.isfinite(probe)):
            return None
        found: list[tuple[float, str]] = []
        for rows, has_door, shift in self._kinds:
            matrix, compare, added = self._matrix[rows], llr, shift.enrolled
            if has_door and door is not None:
                matrix = self._doors[rows.start - self._without : rows.stop - self._without]
                compare, added = door, shift.door
            nearest = _two_best(self._uids[rows], matrix, probe, compare)
            found += [(shifted(one_llr, added), uid) for one_llr, uid in nearest]
        found.sort(key=lambda each: -each[0])
        (best_llr, best), *rest = found
        return Identification(best, best_llr, rest[0][0] if rest else -math.inf, len(self._uids))

    def wipe(self) -> None:
        """Overwrite the voiceprints."""
        self._matrix[:] = 0.0
        self._doors[:] = 0.0


def _matrix(templates: Sequence[Embedding]) -> Embedding:
    rows = [np.asarray(template, dtype=np.float32) for template in templates]
    if any(row.ndim != 1 or row.shape != rows[0].shape for row in rows):
        raise DeviceError("voiceprints of different models cannot be searched together; enrol again")
    matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    if not np.all(np.abs(np.linalg.norm(matrix, axis=1) - 1.0) < 1e-3):
        raise DeviceError("a voiceprint is not of unit length; it was damaged or is of another model")
    return matrix


def _two_best(
    uids: Sequence[str], matrix: Embedding, probe: Embedding, llr: Compare
) -> list[tuple[float, str]]:
    """(LLR, person) of the best fit and the next, as far as there are people."""
    if not uids:
        return []
    scores = matrix @ probe  # an LLR rises with the cosine
    best = int(scores.argmax())
    found = [(llr(probe, matrix[best]), uids[best])]
    if len(uids) > 1:
        scores[best] = -np.inf
        best = int(scores.argmax())
        found.append((llr(probe, matrix[best]), uids[best]))
    return found


class Galleries:
    """People searched together who enrolled by different speaker models: each is compared by their own."""

    def __init__(self, by_model: Mapping[str, Gallery]) -> None:
        self._by_model = {model: people for model, people in by_model.items() if len(people)}

    def __len__(self) -> int:
        return sum(map(len, self._by_model.values()))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._by_model)

    def identify(
        self, heard: Mapping[str, tuple[Embedding, Compare, Compare | None]]
    ) -> Identification | None:
        """As a gallery does; `heard` has the probe and the comparisons for each model."""
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
