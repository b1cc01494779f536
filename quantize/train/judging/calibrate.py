"""From scores to LLRs, on voices, people and files of known systems that training left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from quantize.errors import QuantizeError
from quantize.train.speech.attacks import Row
from quantize.train.speech.corpus import CLASSICAL, family

Array = npt.NDArray[np.float64]
Head = dict[str, Any]
"""`scale` and `offset` of a kind of evidence, and `shares` where it mixes two columns."""

LIVE = ("plain", "coded", "noisy", "room")
DEFAULT_BPCER = 0.0075
"""Of the calibration part's people, in every live condition, at LLR 0 of the score against any attack."""
CORPORA = frozenset(["an4", "asterisk", "libri", "so762"])
CLASSICAL_FAMILIES = frozenset(family(system) for system in CLASSICAL)
"""Families that the envelopes' head learns."""
SHARE = 0.005
"""The share of people below each kind's zero, before all are shifted."""
TAIL = 0.05
"""The share of people, the lowest, that `rarity` is fitted on."""
OF_RARITY = 0.5
"""How much of `rarity` is the slope of frame rates. With all of it a typical person lies so far above zero
that doubts of the other kinds, to which an unknown system sounds like a person, decide who is least live."""
PARTS = ("loudspeaker", "moments")
"""Columns of a score file that answer for loudspeakers: the first network's head, and the second network."""


def certain(page: str) -> bool:
    """Whether this source's recordings are of people for certain.

    A research page's references may have gone through the page's own vocoder: eight that judge the folds have
    exactly the frame rate of their page's systems (docs/spoof-log.md). A game's actors may be robots.
    """
    return page in CORPORA


def columns(
    rows: Sequence[Row], head: str, label: str | None = None, conditions: Collection[str] | None = None
) -> Array:
    """The scores of one column over the rows that match, shape (n,)."""
    return np.array(
        [
            float(r[head])
            for r in rows
            if (label is None or r["label"] == label) and (conditions is None or r["condition"] in conditions)
        ]
    )


def logistic(bonafide: Array, spoof: Array) -> tuple[float, float]:
    """Affine map to LLRs by prior-weighted logistic regression at equal priors: (scale, offset).

    Each class counts one example of the other (Platt 1999): classes that do not overlap get a finite slope.
    Raises QuantizeError where there are too few scores, or the classes lie the wrong way round.
    """
    if len(bonafide) < 20 or len(spoof) < 20:
        raise QuantizeError("too few scores to calibrate on; at least 20 of each class are needed")

    def side(llr: Array) -> Any:
        other = 1 / (len(llr) + 2)
        return ((1 - other) * np.logaddexp(0, -llr) + other * np.logaddexp(0, llr)).mean()

    def loss(p: Array) -> Any:
        return side(p[0] * bonafide + p[1]) + side(-(p[0] * spoof + p[1]))

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).x
    if found[0] <= 0:
        raise QuantizeError("the scores do not tell the classes apart, so there is nothing to calibrate")
    return float(found[0]), float(found[1])


def against_any(*llrs: Array) -> Array:
    """The LLR against an attack of any kind, (n,) each, as `against_any` of the detector has it."""
    found: Array = np.log(len(llrs)) - np.logaddexp.reduce([-np.asarray(llr) for llr in llrs])
    return found


def rarity(scores: Array) -> float:
    """How fast people become rare among their lowest TAIL, in natural log per unit of score.

    It is the slope of an LLR against attacks that may have any score: people alone fit it.
    """
    edge = np.quantile(scores, TAIL)
    return float(1 / (edge - scores[scores < edge]).mean())


def calibrate(
    rows: Sequence[Row], zeros: Mapping[str, float], target_bpcer: float = DEFAULT_BPCER
) -> tuple[dict[str, Head], dict[str, float]]:
    """(calibration of every kind of evidence, operating points) from `rows`, scores of the calibration part.

    Kinds that learn from attacks get their slope from attacks they were taught. The LLR against a loudspeaker
    is the mean of both networks': weights fitted to unseen attacks differ so much by fold that they did worse
    than equal ones. The rest is `settled` by people.
    """
    people = [r for r in rows if certain(r["page"])]
    attacks = [r for r in rows if r["label"] == "spoof"]
    old = [r for r in attacks if r["family"] in CLASSICAL_FAMILIES]
    fitted = [
        logistic(columns(rows, part, "bonafide", LIVE), columns(rows, part, None, ("replayed",)))
        for part in PARTS
    ]
    shares = {part: gain / len(PARTS) for part, (gain, _) in zip(PARTS, fitted, strict=True)}
    heads: dict[str, Head] = {
        "synthetic": {"scale": _slope(rows, attacks, "synthetic")},
        "envelopes": {"scale": _slope(people, old, "envelopes")},
        "cadence": {},
        "loudspeaker": {"scale": 1.0, "shares": shares},
    }
    return settled(heads, people, zeros, target_bpcer)


def settled(
    heads: Mapping[str, Head],
    people: Sequence[Row],
    zeros: Mapping[str, float],
    target_bpcer: float = DEFAULT_BPCER,
) -> tuple[dict[str, Head], dict[str, float]]:
    """(`heads` with everything that people alone fit, operating points), from rows of people for certain.

    That is the slope of frame rates, which learn no attack (OF_RARITY of how fast people become rare), and
    where LLR 0 lies: of kinds in `zeros`, as `unfamiliar.zeros` has it, of others where SHARE of the people
    are refused. Last, one shift for all puts LLR 0, the door's default threshold, where the score against any
    attack refuses `target_bpcer` of the people in the conditions LIVE.
    """
    found = {kind: {**head, "offset": 0.0} for kind, head in heads.items()}
    found["cadence"]["scale"] = OF_RARITY * rarity(columns(people, "cadence", "bonafide", LIVE))
    for kind, head in found.items():
        known = float(np.quantile(llrs(people, kind, head, "bonafide", LIVE), SHARE))
        head["offset"] = -head["scale"] * zeros[kind] if kind in zeros else -known

    def fused() -> Array:
        return against_any(*(llrs(people, kind, head, "bonafide", LIVE) for kind, head in found.items()))

    shift = float(np.quantile(fused(), target_bpcer))
    for head in found.values():
        head["offset"] -= shift
    mixed = fused()
    points = {f"bpcer_{p}": float(np.quantile(mixed, p / 100)) for p in (1, 3, 5)}
    return found, points


def _slope(people: Sequence[Row], attacks: Sequence[Row], column: str) -> float:
    return logistic(columns(people, column, "bonafide", LIVE), columns(attacks, column, None, LIVE))[0]


def llrs(
    rows: Sequence[Row],
    name: str,
    head: Head,
    label: str | None = None,
    conditions: Collection[str] | None = None,
) -> Array:
    """The LLRs of one calibrated kind of evidence over the rows that match, shape (n,)."""
    shares = head.get("shares", {name: 1.0})
    mixed = sum(share * columns(rows, part, label, conditions) for part, share in shares.items())
    found: Array = head["scale"] * mixed + head["offset"]
    return found
