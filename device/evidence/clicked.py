"""Asks the live check about a sound, and about the same sound without the clicks in its pauses; and whether
blocks of it were lost, where the check finds it not live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from device.audio.spoiled.block_edges import break_on_a_grid
from device.audio.spoiled.clicks import clicks, evenly, without
from device.audio.utterance import Wave
from device.model_store.calibration import LLR_LIMIT

ASKED_BELOW_LLR = 1.2
"""Above, clicks and lost blocks are not looked for: they cost nobody a decision at `standard` and
`drugs`. At `max`, which asks for 2.3, they may."""


class LiveFinding(Protocol):
    @property
    def llr(self) -> float: ...

    def kinds(self) -> Mapping[str, float]:
        """What led to `llr`, kind by kind, by the names of the event's vocabulary."""
        ...


class Lived(NamedTuple):
    """What the live check says of one sound."""

    finding: LiveFinding
    llr: float
    """As the rules see it."""
    unclicked_llr: float | None
    """The same without the clicks in its pauses, where these may be at fault. It opens nothing."""
    broken: bool = False
    """Whether it breaks off on the grid of one block size, so that a driver may be at fault."""


def lived(check: Callable[[Wave], tuple[LiveFinding, float]], wave: Wave) -> Lived:
    """What `check` finds in `wave`, and its LLR; raises what it raises."""
    finding, llr = check(wave)
    if llr >= ASKED_BELOW_LLR:
        return Lived(finding, llr, None)
    broken = break_on_a_grid(wave)
    if len(places := clicks(wave)) == 0:
        return Lived(finding, llr, None, broken)
    if evenly(wave, places):  # in every pause: what is made anew there is as even
        return Lived(finding, llr, LLR_LIMIT, broken)
    clean = without(wave, places)
    try:
        return Lived(finding, llr, check(clean)[1], broken)
    finally:
        clean[:] = 0.0
