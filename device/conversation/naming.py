"""Whose voice a group of pieces is, among people who are enrolled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.conversation.grouping import APART, Labels, Matrix
from device.models.speaker import Embedding

# Chosen on development speakers that no figure is reported on.
GROUP_LLR = 0.5
"""Lower than at a door: groups hold noise, rooms and others' syllables. The lowest half of a unit at which,
on conversations in which nobody was enrolled, 0 of 291 voices got one of 56 to 58 names."""
USUAL_LIKENESS = 0.12
"""The mean cosine of a group and people who are not in it: higher where a room or noise is in all of it."""
USUAL_PEOPLE = 5.0
"""What a gallery of so many others says of that counts as much as what is usual."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """People who may be recognised: unit templates by name, and what a cosine of theirs means as LLR."""

    templates: Mapping[str, Embedding]
    llr: Callable[[float], float]
    at_least_llr: float = GROUP_LLR
    """For one person; raised by ln N for N people, as for every search among them."""

    @property
    def bar_llr(self) -> float:
        return self.at_least_llr + math.log(max(1, len(self.templates)))

    def llrs(self, centre: Embedding) -> dict[str, float]:
        """That a group with this centre is each person. What it has in common with everybody else enrolled,
        more or less than usual, is the room's and the microphone's, and is taken off the cosine."""
        if not self.templates:
            return {}
        cosines = np.stack(list(self.templates.values())) @ centre
        others = len(cosines) - 1
        rest = (cosines.sum() - cosines) / max(1, others)
        corrected = cosines - others / (others + USUAL_PEOPLE) * (rest - USUAL_LIKENESS)
        return {name: self.llr(float(one)) for name, one in zip(self.templates, corrected, strict=True)}

    def whose(self, centre: Embedding) -> str:
        """The person whom a group fits best, when it fits well enough; else the empty string."""
        llrs = self.llrs(centre)
        best = max(llrs, key=lambda name: llrs[name], default="")
        return best if best and llrs[best] >= self.bar_llr else ""


def kept_apart(distances: Matrix, labels: Labels, names: list[str]) -> Matrix:
    """Distances of pieces (n, n) in which those of one name are together, of two names APART. `names` are
    of the groups that `labels` gives; the empty string is no name."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    whose: npt.NDArray[np.intp] = np.array([numbers[name] for name in names])[labels]
    named = np.array([bool(name) for name in names])[labels]
    both = named[:, None] & named[None, :]
    same = whose[:, None] == whose[None, :]
    found = np.where(both, np.where(same, np.float32(0.0), np.float32(APART)), distances)
    return np.asarray(found, np.float32)
