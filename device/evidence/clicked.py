"""What the live check says of a sound, and of the same sound without the clicks in its pauses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.clicks import clicks, evenly, without
from device.model_store.calibration import LLR_LIMIT

Wave = npt.NDArray[np.float32]
"""Mono speech at 16 kHz in [-1, 1), shape (n,)."""

ASKED_BELOW_LLR = 1.0
"""Above, clicks cost nobody a decision, and are not looked for."""


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


def lived(check: Callable[[Wave], tuple[LiveFinding, float]], wave: Wave) -> Lived:
    """What `check` finds in `wave`, and its LLR; raises what it raises."""
    finding, llr = check(wave)
    if llr >= ASKED_BELOW_LLR or len(places := clicks(wave)) == 0:
        return Lived(finding, llr, None)
    if evenly(wave, places):  # in every pause: what is made anew there is as even
        return Lived(finding, llr, LLR_LIMIT)
    clean = without(wave, places)
    try:
        return Lived(finding, llr, check(clean)[1])
    finally:
        clean[:] = 0.0
