"""Corrects the live check's scores for the place, by how far its noise and echoes move everybody's scores.

The detector was calibrated on speech at a desk. Noise and rooms lower its scores of people, and rooms draw
them together. How far speech stands out and how fast sound dies away tell the place; the LLR is moved by as
much as people were moved there (docs/adr/0038), and stretched so that everywhere people become rare by e for
each unit of it (docs/adr/0080). The fit heard no attack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from device.audio.utterance import Quality
from device.model_store.calibration import LLR_LIMIT
from device.own_files import own_file
from sync.toml_table import toml_table

QUIET_SNR_DB, LOUD_SNR_DB = 30.0, 10.0
DRY_DB_S, LIVELY_DB_S = 220.0, 100.0
MOST_SHIFT = 4.0
"""Of the LLR: a table that moves it more is damaged."""
LEAST_SPREAD, MOST_SPREAD = 0.25, 2.0
"""A table by which people spread less or more somewhere is damaged, too."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was said: each from 0, as at a desk, to 1."""

    noise: float
    echo: float

    @classmethod
    def of(cls, quality: Quality) -> Self:
        """What cannot be measured counts as in between."""
        return cls(
            _share(quality.snr_db, QUIET_SNR_DB, LOUD_SNR_DB),
            _share(quality.decay_db_s, DRY_DB_S, LIVELY_DB_S),
        )


def _share(value: float, none: float, whole: float) -> float:
    return min(1.0, max(0.0, (value - none) / (whole - none))) if math.isfinite(value) else 0.5


@dataclass(frozen=True, slots=True)
class ByPlace:
    """What differs by place: so much everywhere, and so much more in full noise and in a lively room."""

    always: float
    noise: float
    echo: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """From a table of these three; raises KeyError or ValueError for any other."""
        return cls(*(float(fields[name]) for name in cls.__slots__))

    def at(self, place: Place) -> float:
        """What it is there."""
        return self.always + self.noise * place.noise + self.echo * place.echo

    def lies_within(self, least: float, most: float) -> bool:
        """Whether it lies between the two in every place, and is a number."""
        ends = (0.0, 1.0)
        return all(least <= self.at(Place(noise, echo)) <= most for noise in ends for echo in ends)


@dataclass(frozen=True, slots=True)
class Conditioned:
    """What one fit made of people's scores in places. Another detector than the one it was fitted on is left
    as it is."""

    version: str
    detector: str
    """The version of the only detector whose scores this moves."""
    shift: ByPlace
    """Added to the LLR, in natural log."""
    spread: ByPlace
    """What the moved LLR is divided by: over so much of it people become rarer by e."""
    operating_points: Mapping[str, float]
    """Thresholds by name: the zero lies elsewhere than the detector's own."""

    def __post_init__(self) -> None:
        if not self.shift.lies_within(-MOST_SHIFT, MOST_SHIFT):
            raise ValueError(f"the shift moves an LLR by more than {MOST_SHIFT:g}, or is not a number")
        if not self.spread.lies_within(LEAST_SPREAD, MOST_SPREAD):
            raise ValueError(
                f"people spread over less than {LEAST_SPREAD:g} or more than {MOST_SPREAD:g} of an LLR"
            )
        if not all(math.isfinite(value) for value in self.operating_points.values()):
            raise ValueError("an operating point is not finite")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError or KeyError for anything but a whole table."""
        table: dict[str, Any] = toml_table(text)
        return cls(
            version=str(table["version"]),
            detector=str(table["detector"]),
            shift=ByPlace.of(table["shift"]),
            spread=ByPlace.of(table["spread"]),
            operating_points={str(name): float(value) for name, value in table["operating_points"].items()},
        )

    def llr(self, detector: str, llr: float, quality: Quality) -> float:
        """The LLR of a live human; `llr` is the own one of the detector of that version. What is not a
        number stays none."""
        if detector != self.detector or not math.isfinite(llr):
            return llr
        place = Place.of(quality)
        moved = (llr + self.shift.at(place)) / self.spread.at(place)
        return max(-LLR_LIMIT, min(LLR_LIMIT, moved))

    def points(self, detector: str, own: Mapping[str, float]) -> Mapping[str, float]:
        """The operating points for `llr` of the detector of that version, whose own ones are `own`."""
        return self.operating_points if detector == self.detector and own else own


@cache
def shipped() -> Conditioned:
    """The shift of this version."""
    return own_file("device.evidence", "conditions.toml", lambda data: Conditioned.from_text(data.decode()))
