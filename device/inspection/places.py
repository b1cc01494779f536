"""Where a recording looks edited: words taken out, put in or exchanged, or pieces put together.

The door's network (`device/liveness/joins.py`) has heard answers that were pasted together; this one went
on from it (`python -m research.joins.edits`) with edits. A place is judged by how sharply it stands out and
by what the whole recording is like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from device.liveness.joins import FRAME_S, JoinNetwork
from device.model_store.calibration import Calibration
from device.own_files import own_file
from sync.toml_table import toml_table

APART_S = 0.25
"""Of what stands out within this time the highest is one place."""
LOWEST_LOGIT = -3.0
"""Lower frames are no places."""
MARK_LLR = math.log(10.0)
"""From here on a place is marked: "moderate support" on the scale."""
MOST_LLR = 8.0
"""So far the whole recording counts, either way, at one place."""
FOLDER = "device.inspection"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InspectionWeights:
    """Fitted maps to natural-log LLRs."""

    version: str
    live: Calibration
    """A person against synthesis that the detector was never taught, from the live check's LLR, whose zero is
    set so that doors refuse few people."""
    detector: str
    """The version of the live check that `live` was fitted on."""
    whole: Calibration
    """One go against edits, from the network's score."""
    place: tuple[float, float, float]
    """An edit here against none: weights of what `about` gives, and an offset."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError or KeyError for anything but a whole table."""
        table: dict[str, Any] = toml_table(text)
        logit, whole = (float(one) for one in table["place"]["weights"])
        live, go = (
            Calibration(float(table[name]["scale"]), float(table[name]["offset"]))
            for name in ("live", "whole")
        )
        return cls(
            str(table["version"]),
            live,
            str(table["live"]["detector"]),
            go,
            (logit, whole, float(table["place"]["offset"])),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one recording."""

    one_go_llr: float
    places: tuple[tuple[float, float], ...]
    """(second, LLR of an edit there), in order, however weak."""
    llrs: Floats
    """(frames,), every FRAME_S: the LLR of an edit there."""


@dataclass(frozen=True, slots=True)
class Edits:
    """Looks for edits."""

    network: JoinNetwork
    weights: InspectionWeights

    def __call__(self, wave: Floats) -> Found:
        """Of a recording (n,) at 16 kHz."""
        heard = self.network(wave)
        whole = self.weights.whole.llr(heard.score)
        every = self._llrs(heard.frames, whole)
        found = peaks(heard.frames, LOWEST_LOGIT)
        llrs = self._llrs(np.array([logit for _, logit in found], np.float32), whole)
        return Found(whole, tuple((at, float(llr)) for (at, _), llr in zip(found, llrs, strict=True)), every)

    def _llrs(self, logits: Floats, one_go_llr: float) -> Floats:
        *weights, offset = self.weights.place
        made: Floats = (about(logits, one_go_llr) @ np.array(weights) + offset).astype(np.float32)
        return made


def about(logits: npt.ArrayLike, one_go_llr: float) -> npt.NDArray[np.float64]:
    """What a place's ratio is made of, (n, 2): how it stands out, and how much all of it speaks for edits."""
    rows = np.atleast_1d(np.asarray(logits, np.float64))
    return np.column_stack([rows, np.full(len(rows), -min(MOST_LLR, max(-MOST_LLR, one_go_llr)))])


def peaks(frames: Floats, least: float) -> list[tuple[float, float]]:
    """(second, logit) where a frame's answer stands highest within APART_S and above `least`."""
    reach = round(APART_S / FRAME_S)
    found = []
    for at, logit in enumerate(frames):
        around = frames[max(0, at - reach) : at + reach + 1]
        if logit > least and logit == around.max():
            found.append(((at + 0.5) * FRAME_S, float(logit)))
    return [one for n, one in enumerate(found) if not n or one[0] - found[n - 1][0] > APART_S]


@cache
def shipped_edits() -> Edits:
    """The network and the weights of this version."""
    return Edits(
        own_file(FOLDER, "edits.npz", JoinNetwork.from_bytes),
        own_file(FOLDER, "weights.toml", lambda data: InspectionWeights.from_text(data.decode())),
    )
