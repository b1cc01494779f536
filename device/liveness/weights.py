"""How much each piece of evidence weighs: fitted values that ship with the code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from device.model_store.calibration import Calibration
from device.own_files import own_file
from sync.toml_table import toml_table


@dataclass(frozen=True, slots=True)
class Weights:
    """Affine maps from a score to an LLR. Scores are turned so that higher speaks for the person."""

    version: str
    reuse: Calibration
    consistency: Calibration
    joins: Calibration

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError or KeyError for anything but a whole table."""
        table: dict[str, Any] = toml_table(text)
        return cls(
            str(table["version"]),
            _calibration(table["reuse"]),
            _calibration(table["consistency"]),
            _calibration(table["joins"]),
        )


def _calibration(fields: dict[str, Any]) -> Calibration:
    return Calibration(scale=float(fields["scale"]), offset=float(fields["offset"]))


def shipped() -> Weights:
    """The weights of this version."""
    return own_file("device.liveness", "weights.toml", lambda data: Weights.from_text(data.decode()))
