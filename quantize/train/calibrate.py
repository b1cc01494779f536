"""From network scores to LLRs, on voices, people and files of known systems that training left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from quantize.errors import QuantizeError

LIVE = ("plain", "coded", "noisy", "room")
DEFAULT_BPCER = 0.0075
"""Of the calibration part's people at LLR 0. Chosen before frame rates were heard, where it refused people of
the folds' unseen corpora as often, in each condition, as the first network alone did at its 1 %."""
CORPORA = frozenset(["an4", "asterisk", "libri", "so762"])
UNFRAMED = frozenset(["diphone-and-hts", "espeak", "griffinlim", "lpc", "stretched", "world"])
"""Families of known attacks that make samples without frames, or nothing but filters of real speech."""
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
    """Affine map to LLRs by prior-weighted logistic regression at equal priors: (scale, offset)."""
    if len(bonafide) < 20 or len(spoof) < 20:
        raise QuantizeError("too few scores to calibrate on; at least 20 of each class are needed")

    def loss(p):
        return np.logaddexp(0, -(p[0] * bonafide + p[1])).mean() + np.logaddexp(0, p[0] * spoof + p[1]).mean()

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).x
    if found[0] <= 0:
        raise QuantizeError("the scores do not tell the classes apart, so there is nothing to calibrate")
    return float(found[0]), float(found[1])


def against_any(*llrs):
    """The LLR against an attack of any kind, (n,) each, as `device.models.spoof.against_any` has it."""
    return np.log(len(llrs)) - np.logaddexp.reduce([-np.asarray(llr) for llr in llrs])


def calibrate(rows, target_bpcer=DEFAULT_BPCER):
    """Calibration of every kind of evidence, and operating points.

    `rows` are scores of the calibration part. Frame rates are calibrated on the attacks that have frames.
    The mean of both networks' LLRs answers for loudspeakers: weights fitted to unseen attacks differ so much
    between folds that they did worse than equal ones. The offset puts LLR 0, the door's default threshold,
    where `target_bpcer` of the part's people, plain, coded, noisy and in a room, is refused by the score
    against any attack.
    """
    scale, offset = logistic(
        columns(rows, "synthetic", "bonafide", LIVE), columns(rows, "synthetic", "spoof", LIVE)
    )
    heads = {"synthetic": {"scale": scale, "offset": offset}}
    fitted = [
        logistic(columns(rows, part, "bonafide", LIVE), columns(rows, part, None, ("replayed",)))
        for part in PARTS
    ]
    people = [r for r in rows if certain(r["page"])]
    framed = [r for r in rows if r["label"] == "spoof" and r["family"] not in UNFRAMED]
    scale, offset = logistic(
        columns(people, "cadence", "bonafide", LIVE), columns(framed, "cadence", None, LIVE)
    )
    heads["cadence"] = {"scale": scale, "offset": offset}
    shares = {part: gain / len(PARTS) for part, (gain, _) in zip(PARTS, fitted, strict=True)}
    heads["loudspeaker"] = {"scale": 1.0, "offset": float(np.mean([o for _, o in fitted])), "shares": shares}

    def fused():
        return against_any(*(llrs(people, head, heads[head], "bonafide", LIVE) for head in heads))

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
