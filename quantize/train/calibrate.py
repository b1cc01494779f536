"""From network scores to LLRs, on voices, people and files of known systems that training left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from quantize.errors import QuantizeError

LIVE = ("plain", "coded", "noisy", "room")
DEFAULT_BPCER = 0.0075
"""Of the calibration part at LLR 0: so people of the folds' unseen corpora are refused as often, clean,
coded, noisy and in a room, as they were by the first network alone at its 1 %."""
PARTS = ("loudspeaker", "moments")
"""Columns of a score file that answer for loudspeakers: the first network's head, and the second network."""


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
    """Affine map to LLRs by prior-weighted logistic regression at equal priors: (scale, offset)."""
    if len(bonafide) < 20 or len(spoof) < 20:
        raise QuantizeError("too few scores to calibrate on; at least 20 of each class are needed")

    def loss(p):
        return np.logaddexp(0, -(p[0] * bonafide + p[1])).mean() + np.logaddexp(0, p[0] * spoof + p[1]).mean()

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).x
    if found[0] <= 0:
        raise QuantizeError("the scores do not tell the classes apart, so there is nothing to calibrate")
    return float(found[0]), float(found[1])


def either(synthetic, loudspeaker):
    """The LLR against an attack of either kind, as `device.models.spoof.against_either` has it."""
    return -np.logaddexp(-synthetic + np.log(0.5), -loudspeaker + np.log(0.5))


def calibrate(rows, target_bpcer=DEFAULT_BPCER):
    """Calibration of both heads and operating points.

    `rows` are scores of the calibration part. The mean of both networks' LLRs answers for loudspeakers:
    weights fitted to unseen attacks differ so much between folds that they did worse than equal ones. The
    offset puts LLR 0, the door's default threshold, where `target_bpcer` of the bona fide, plain,
    coded, noisy and in a room, of the part is refused by the score against either attack.
    """
    scale, offset = logistic(
        columns(rows, "synthetic", "bonafide", LIVE), columns(rows, "synthetic", "spoof", LIVE)
    )
    heads = {"synthetic": {"scale": scale, "offset": offset}}
    fitted = [
        logistic(columns(rows, part, "bonafide", LIVE), columns(rows, part, None, ("replayed",)))
        for part in PARTS
    ]
    shares = {part: gain / len(PARTS) for part, (gain, _) in zip(PARTS, fitted, strict=True)}
    heads["loudspeaker"] = {"scale": 1.0, "offset": float(np.mean([o for _, o in fitted])), "shares": shares}

    def fused():
        return either(*(llrs(rows, head, heads[head], "bonafide", LIVE) for head in heads))

    shift = float(np.quantile(fused(), target_bpcer))
    for head in heads.values():
        head["offset"] -= shift
    found = fused()
    points = {f"bpcer_{p}": float(np.quantile(found, p / 100)) for p in (1, 3, 5)}
    return heads, points


def llrs(rows, name, head, label=None, conditions=None):
    """The LLRs of one calibrated head over the rows that match."""
    shares = head.get("shares", {name: 1.0})
    mixed = sum(share * columns(rows, part, label, conditions) for part, share in shares.items())
    return head["scale"] * mixed + head["offset"]
