"""How the detector saw one attempt, in 32 signed bytes: alike for one attacking tool, not for one person.

Made of the statistics that the envelopes' head hears anyway (`envelopes.py`) and of the way that the sound
came (`colour.py`), by a linear map that was fitted to tell attackers apart, by their tool and by what they
play it with, and to see all people as one (`research.fits.prints`): where people lie is zero. It is another
answer of what the detector computes; no network and no file of a bundle has a part in it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from device.arrays import read_arrays
from device.models.spoof.colour import COLOURS, colour
from device.models.spoof.envelopes import STATISTICS, envelopes
from device.own_files import own_file

VALUES = 32
SEEN = STATISTICS + COLOURS
MAX_BYTES = 1 << 20
LIMIT = 8.0
"""In standard deviations of people, of one statistic."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Printer:
    """The map from statistics to a print."""

    version: str
    centre: Floats
    """(SEEN,): where people lie"""
    scale: Floats
    """(SEEN,)"""
    directions: npt.NDArray[np.float16]
    """(SEEN, VALUES)"""

    def __post_init__(self) -> None:
        shapes = {"centre": (SEEN,), "scale": (SEEN,), "directions": (SEEN, VALUES)}
        for name, shape in shapes.items():
            part = getattr(self, name)
            if part.shape != shape or part.dtype.kind != "f" or not np.isfinite(part).all():
                raise ValueError(f"{name} of the prints is not {shape} finite numbers")
        if self.scale.min() <= 0:
            raise ValueError("the prints have a scale of zero")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From an .npz of these parts; raises ValueError when it is anything else."""
        parts = read_arrays(data, cls.__slots__, "the map of prints", MAX_BYTES)
        return cls(str(parts["version"]), parts["centre"], parts["scale"], parts["directions"])

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        parts: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        np.savez(buffer, **parts)
        return buffer.getvalue()

    def __call__(self, found: Floats) -> bytes:
        """The print of what was `seen`: signed bytes, the longest of them 127."""
        turned = np.clip((found - self.centre) / self.scale, -LIMIT, LIMIT) @ self.directions.astype(
            np.float32
        )
        longest = float(np.abs(turned).max())
        if not longest > 0:  # also when it is not a number
            return bytes([1]) + bytes(VALUES - 1)
        made: bytes = np.rint(turned * (127.0 / longest)).astype(np.int8).tobytes()
        return made


def seen(wave: Floats, statistics: Floats | None = None) -> Floats:
    """What a print is made of, (SEEN,), of speech (n,) at 16 kHz.

    `statistics` are its envelopes where they were worked out already.
    """
    found: Floats = np.concatenate((envelopes(wave) if statistics is None else statistics, colour(wave)))
    return found


@cache
def shipped() -> Printer:
    """The map of this version."""
    return own_file("device.models.spoof", "prints.npz", Printer.from_bytes)
