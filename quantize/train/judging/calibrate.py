"""From network scores to LLRs, on voices, people and files of known systems that training left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from quantize.errors import QuantizeError
from quantize.train.speech.corpus import CLASSICAL, family

LIVE = ("plain", "coded", "noisy", "room")
DEFAULT_BPCER = 0.0075
"""Of the calibration part's people, in every live condition, at LLR 0 of the score against any attack."""
CORPORA = frozenset(["an4", "asterisk", "libri", "so762"])
CLASSICAL_FAMILIES = frozenset(family(system) for system in CLASSICAL)
"""What the envelopes' head learns."""
SHARE = 0.005
"""Of people, whom each kind of evidence alone would call a machine at its zero."""
TAIL = 0.05
"""Of people, whose scores say how fast people become rare."""
PARTS = ("loudspeaker", "moments")
"""Columns of a score file that answer for loudspeakers: the first network's head, and the second network."""


def certain(page: str) -> bool:
    """Whether this source's people are people for certain.

    A research page's references may have gone through the page's own vocoder: eight that judge the folds beat
    exactly as their page's systems do (docs/spoof-log.md). A game's actors may be robots.
    """
    return page in CORPORA


def columns(rows, head, label=None, conditions=None):
    """The scores of one head over the rows that match."""
    return np.array(
        [
            float(r[head])
            for r in rows
            if (label is None or r["label"] == label) and (conditions is None or r["condition"] in conditions)
        ]
    )


def logistic(bonafide, spoof):
    """Affine map to LLRs by prior-weighted logistic regression at equal priors: (scale, offset).

    Each class counts one example of the other (Platt 1999): classes that do not overlap get a finite slope.
    """
    if len(bonafide) < 20 or len(spoof) < 20:
        raise QuantizeError("too few scores to calibrate on; at least 20 of each class are needed")

    def side(llr):
        other = 1 / (len(llr) + 2)
        return ((1 - other) * np.logaddexp(0, -llr) + other * np.logaddexp(0, llr)).mean()

    def loss(p):
        return side(p[0] * bonafide + p[1]) + side(-(p[0] * spoof + p[1]))

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).x
    if found[0] <= 0:
        raise QuantizeError("the scores do not tell the classes apart, so there is nothing to calibrate")
    return float(found[0]), float(found[1])


def against_any(*llrs):
    """The LLR against an attack of any kind, (n,) each, as `against_any` of the detector has it."""
    return np.log(len(llrs)) - np.logaddexp.reduce([-np.asarray(llr) for llr in llrs])


def rarity(scores) -> float:
    """How fast people become rare below their lowest TAIL, in natural log per unit of score.

    The slope of an LLR against attacks that may have any score: people alone fit it.
    """
    edge = np.quantile(scores, TAIL)
    return float(1 / (edge - scores[scores < edge]).mean())


def calibrate(rows, zeros, target_bpcer=DEFAULT_BPCER):
    """Calibration of every kind of evidence, and operating points.

    `rows` are scores of the calibration part. Kinds that learn from attacks have the slope of those they
    know and the zeros of `unfamiliar.zeros`; frame rates know no attack, so people alone give their slope.
    The mean of both networks' LLRs answers for loudspeakers: weights fitted to unseen attacks differ so much
    by fold that they did worse than equal ones. Last, one shift for all puts LLR 0, the door's default
    threshold, where `target_bpcer` of the part's people, plain, coded, noisy and in a room, is refused by the
    score against any attack.
    """
    people = [r for r in rows if certain(r["page"])]
    attacks = [r for r in rows if r["label"] == "spoof"]
    old = [r for r in attacks if r["family"] in CLASSICAL_FAMILIES]
    slopes = {
        "synthetic": _slope(rows, attacks, "synthetic"),
        "envelopes": _slope(people, old, "envelopes"),
        "cadence": rarity(columns(people, "cadence", "bonafide", LIVE)),
    }
    heads = {kind: {"scale": slope, "offset": 0.0} for kind, slope in slopes.items()}
    fitted = [
        logistic(columns(rows, part, "bonafide", LIVE), columns(rows, part, None, ("replayed",)))
        for part in PARTS
    ]
    shares = {part: gain / len(PARTS) for part, (gain, _) in zip(PARTS, fitted, strict=True)}
    heads["loudspeaker"] = {"scale": 1.0, "offset": 0.0, "shares": shares}
    for kind, head in heads.items():
        known = float(np.quantile(llrs(people, kind, head, "bonafide", LIVE), SHARE))
        head["offset"] = -head["scale"] * zeros[kind] if kind in zeros else -known

    def fused():
        return against_any(*(llrs(people, head, heads[head], "bonafide", LIVE) for head in heads))

    shift = float(np.quantile(fused(), target_bpcer))
    for head in heads.values():
        head["offset"] -= shift
    found = fused()
    points = {f"bpcer_{p}": float(np.quantile(found, p / 100)) for p in (1, 3, 5)}
    return heads, points


def _slope(people, attacks, column):
    return logistic(columns(people, column, "bonafide", LIVE), columns(attacks, column, None, LIVE))[0]


def llrs(rows, name, head, label=None, conditions=None):
    """The LLRs of one calibrated head over the rows that match."""
    shares = head.get("shares", {name: 1.0})
    mixed = sum(share * columns(rows, part, label, conditions) for part, share in shares.items())
    return head["scale"] * mixed + head["offset"]
