"""From network scores to LLRs, on voices, people and files of known systems that training left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from quantize.errors import QuantizeError

LIVE = ("plain", "coded", "noisy", "room")


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


def calibrate(rows, target_bpcer=0.01):
    """Calibration of both heads and operating points.

    `rows` are scores of the calibration part. The offset puts LLR 0, the door's default threshold, where
    `target_bpcer` of its bona fide, plain, coded, noisy and in a room, is refused by either head together.
    """
    attacks = {"synthetic": ("spoof", LIVE), "loudspeaker": (None, ("replayed",))}
    heads = {}
    for head, (label, conditions) in attacks.items():
        live = columns(rows, head, "bonafide", LIVE)
        scale, offset = logistic(live, columns(rows, head, label, conditions))
        heads[head] = {"scale": scale, "offset": offset}

    def fused():
        llrs = [h["scale"] * columns(rows, n, "bonafide", LIVE) + h["offset"] for n, h in heads.items()]
        return either(*llrs)

    shift = float(np.quantile(fused(), target_bpcer))
    for head in heads.values():
        head["offset"] -= shift
    llrs = fused()
    points = {f"bpcer_{p}": float(np.quantile(llrs, p / 100)) for p in (1, 3, 5)}
    return heads, points
