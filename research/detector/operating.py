"""What the door's operating points do to people and to each kind of attack, everything unseen.

A fold's thresholds are those that its own calibration part gives (people of known corpora whom no network
heard), as the card's are; a threshold taken from the unseen people themselves would flatter.
"""

from __future__ import annotations

import numpy as np

from quantize.evaluate.figures.intervals import Share
from quantize.train.judging.calibrate import LIVE, certain
from quantize.train.speech.corpus import COPIES as COPIED

DEFAULT = "LLR 0"
POINTS = (DEFAULT, "bpcer_1", "bpcer_3", "bpcer_5")
CONVERSION, SPEECH = "voice conversion, research pages", "text to speech, research pages"
PACKAGED, COPIES = "synthesisers in packages", "copies by vocoders and codecs"
SPECIES = (CONVERSION, SPEECH, PACKAGED, COPIES)
CONVERTERS = frozenset(
    ["autovc", "bne-ppg-vc", "dddmvc", "diffhiervc", "diffvc", "freevc", "hiervst", "voicemixer", "vqmivc"]
)
COPIERS = COPIED | {"stretched"}


def species(row) -> str:
    if row["page"] == "made":
        return COPIES if row["family"] in COPIERS else PACKAGED
    return CONVERSION if row["family"] in CONVERTERS else SPEECH


def thresholds(seen) -> dict[tuple[str, str], float]:
    """(fold, operating point) -> LLR, from the folds' rows of known corpora; LLR 0 lies where they put it."""
    found = {}
    for fold in {r["fold"] for r in seen}:
        people = [
            r["llr"]
            for r in seen
            if r["fold"] == fold
            and r["label"] == "bonafide"
            and r["condition"] in LIVE
            and certain(r["page"])
        ]
        found[fold, DEFAULT] = 0.0
        for percent in (1, 3, 5):
            found[fold, f"bpcer_{percent}"] = float(np.quantile(people, percent / 100))
    return found


def accepted(rows, limits, point: str) -> Share:
    """Of `rows`, those whose score lies above their fold's threshold."""
    return Share(sum(r["llr"] > limits[r["fold"], point] for r in rows), len(rows))


def refused(rows, limits, point: str) -> Share:
    taken = accepted(rows, limits, point)
    return Share(taken.of - taken.hits, taken.of)


def points_table(unseen, seen):
    """Rows for every group of people (refused) and of attacks (accepted) at every operating point."""
    limits = thresholds(seen)
    groups = []
    for condition in LIVE:
        people = [r for r in unseen if r["label"] == "bonafide" and r["condition"] == condition]
        groups.append((f"people, {condition}: refused", people, refused))
    for corpus in sorted({r["page"] for r in unseen} & {"libri", "so762"}):
        people = [
            r
            for r in unseen
            if r["page"] == corpus and r["label"] == "bonafide" and r["condition"] == "plain"
        ]
        groups.append((f"people of {corpus}: refused", people, refused))
    for condition, name in (("plain", "digital"), ("replayed", "replayed")):
        heard = [r for r in unseen if r["condition"] == condition]
        attacks = [r for r in heard if r["label"] == "spoof"]
        for kind in SPECIES:
            groups.append((f"{kind}, {name}: accepted", [r for r in attacks if species(r) == kind], accepted))
        groups.append((f"all attacks, {name}: accepted", attacks, accepted))
        if condition == "replayed":
            people = [r for r in heard if r["label"] == "bonafide"]
            groups.append(("recordings of people, replayed: accepted", people, accepted))
    return [
        (name, str(len(rows)), *(str(count(rows, limits, point)) for point in POINTS))
        for name, rows, count in groups
        if rows
    ]
