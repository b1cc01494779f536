"""Tells whether the person who was claimed still speaks: trust that decays and recovers, window by window.

A hidden Markov model of two states, the claimed person or somebody else. Each window's LLR moves the
log-odds; between windows either may take over from the other with a small chance, so that what was heard long
ago counts less and less; and while nobody speaks, trust falls back to even odds. Pure: no sound, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from device.errors import DeviceError


class Change(StrEnum):
    """What a stream reports about the claimed person."""

    TRUSTED = "TRUSTED"
    """The claimed person is speaking."""
    DOUBTED = "DOUBTED"
    """Somebody else is speaking, or too long a silence has gone by."""


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """How fast trust is won and lost: a point of the curve of `ostiary evaluate --only changes`."""

    weight: float = 0.35
    """Of one window's LLR: windows overlap, so each tells only in part something new."""
    most_llr: float = 8.0
    """A single window counts this much at most, either way."""
    change_per_s: float = 0.02
    """The chance that somebody else takes over within a second of speech."""
    half_life_s: float = 20.0
    """Of trust while nobody speaks."""
    doubted_below: float = 0.1
    trusted_above: float = 0.9
    """Probabilities at which a change is reported; between them nothing is."""

    def __post_init__(self) -> None:
        if not 0.0 < self.doubted_below < self.trusted_above < 1.0:
            raise ValueError("0 < doubted_below < trusted_above < 1")
        if not 0.0 < self.change_per_s < 0.5 or self.half_life_s <= 0.0 or self.weight <= 0.0:
            raise ValueError("change_per_s lies between 0 and 0.5; half_life_s and weight are positive")


class Trust:
    """The probability that the claimed person is the one who speaks, from 0.5 on."""

    def __init__(self, settings: TrustSettings | None = None) -> None:
        self._settings = settings or TrustSettings()
        self._log_odds = 0.0
        self._state: Change | None = None

    @property
    def probability(self) -> float:
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, self._log_odds))))

    @property
    def state(self) -> Change | None:
        """The last change that was reported; None before the first."""
        return self._state

    def heard(self, llr: float, step_s: float) -> Change | None:
        """Take one window's LLR, `step_s` after the one before; a change, when there is one. Raises
        DeviceError for an LLR that is no number."""
        if not math.isfinite(llr):
            raise DeviceError("a window's LLR must be finite")
        stays, leaves = self.probability, 1.0 - self.probability
        chance = min(0.5, self._settings.change_per_s * step_s)
        stays, leaves = stays * (1 - chance) + leaves * chance, leaves * (1 - chance) + stays * chance
        counted = max(-self._settings.most_llr, min(self._settings.most_llr, llr))
        self._log_odds = math.log(stays / leaves) + self._settings.weight * counted
        return self._reported()

    def silent(self, seconds: float) -> Change | None:
        """Nobody spoke for so long; a change, when trust has fallen below what is called trusted."""
        self._log_odds *= 0.5 ** (seconds / self._settings.half_life_s)
        if self._state is Change.TRUSTED and self._log_odds < _SPENT:
            self._state = Change.DOUBTED
            return self._state
        return None

    def _reported(self) -> Change | None:
        state = self._state
        if self.probability >= self._settings.trusted_above:
            state = Change.TRUSTED
        elif self.probability <= self._settings.doubted_below:
            state = Change.DOUBTED
        if state is self._state:
            return None
        self._state = state
        return state


_SPENT = 0.5
"""Log-odds below which silence has used trust up: a probability of 0.62."""
