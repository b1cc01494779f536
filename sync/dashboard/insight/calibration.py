"""How scores were distributed where the thresholds were set: what the page compares a site's own with.

`ostiary evaluate` writes a report with a histogram of each check over the calibration set. It is brought in
once for each set of models; scores that later lie elsewhere mean another room, another microphone, or an
attack.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.errors import DashboardError
from sync.dashboard.insight.figures import BINS, HIGH, LOW
from sync.dashboard.schema import calibrations
from sync.errors import MALFORMED
from sync.plain_file import plain_bytes
from sync.plain_words import why

MAX_REPORT_BYTES = 64 << 20
SCALE = 100_000
MOVED = 0.3
"""A door is named from this distance of the cumulative distributions on (0 to 1)."""
FEWEST = 50
"""A door with fewer scores is not named."""

Shapes = dict[str, dict[str, list[int]]]
"""score -> {"granted": bins, "refused": bins}, each adding up to about `SCALE`."""


def read_report(path: Path) -> tuple[Shapes, str]:
    """(shapes, what was measured). Raises DashboardError for anything else than such a report."""
    try:
        report = json.loads(plain_bytes(path, MAX_REPORT_BYTES))
        if report["schema"] != "ostiary.evaluation/1":
            raise ValueError("another schema")
        found = {name: _shapes(one) for name, one in _detections(report).items()}
        made = report["provenance"]
        source = f"{made['files']} recordings of {made['speakers']} people, {made['made_at']}"[:200]
    except OSError as err:
        raise DashboardError(f"{path.name} cannot be read: {why(err)}") from err
    except MALFORMED as err:
        raise DashboardError(
            f"{path.name} is no report of `ostiary evaluate` ({type(err).__name__}); give its report.json"
        ) from err
    if not found:
        raise DashboardError(f"{path.name} has no scores of words, voice or liveness")
    return found, source


def keep_in(db: Connection, shapes: Shapes, source: str, now_ms: int) -> None:
    """Keep these in place of those before."""
    db.execute(sa.delete(calibrations))
    rows = [
        {"score": name, "bins": json.dumps(bins), "source": source, "set_ms": now_ms}
        for name, bins in shapes.items()
    ]
    db.execute(sa.insert(calibrations), rows)


def load(db: Connection) -> tuple[Shapes, str]:
    """({}, '') before any was brought in."""
    rows = db.execute(sa.select(calibrations)).all()
    return {row.score: json.loads(row.bins) for row in rows}, rows[0].source if rows else ""


def distance(some: Sequence[int], others: Sequence[int]) -> float | None:
    """Kolmogorov-Smirnov: the greatest difference of the cumulative shares, 0 to 1; None for an empty one."""
    all_some, all_others = sum(some), sum(others)
    if not all_some or not all_others:
        return None
    worst = a = b = 0.0
    for one, other in zip(some, others, strict=True):
        a, b = a + one / all_some, b + other / all_others
        worst = max(worst, abs(a - b))
    return worst


def _detections(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    speaker = next((one for one in report.get("speaker") or () if one["model"] == "int8"), None)
    for name, part in (("phrase_llr", report.get("phrase")), ("speaker_llr", speaker)):
        if part and part.get("views"):
            found[name] = max(part["views"].values(), key=lambda view: int(view["targets"]))
    if report.get("spoof"):
        found["spoof_llr"] = report["spoof"]["pooled"]
    return found


def _shapes(detection: dict[str, Any]) -> dict[str, list[int]]:
    shape = detection["histogram"]
    edges = [float(edge) for edge in shape["edges"]]
    if len(edges) < 2 or edges != sorted(edges):
        raise ValueError("edges do not rise")
    return {
        tone: binned(edges, [float(share) for share in shape[name]])
        for tone, name in (("granted", "targets"), ("refused", "nontargets"))
    }


def binned(edges: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Shares of one histogram in the bins of ours; what lies outside goes into the outermost."""
    if len(edges) != len(shares) + 1:
        raise ValueError("one more edge than shares")
    step, bins = (HIGH - LOW) / BINS, [0.0] * BINS
    for low, high, share in zip(edges, edges[1:], shares, strict=False):
        first, last = (int(min(BINS - 1, max(0, (at - LOW) // step))) for at in (low, high))
        width = high - low
        for number in range(first, last + 1):
            begin = low if number == first else LOW + number * step
            end = high if number == last else LOW + (number + 1) * step
            part = (end - begin) / width if width else 1.0
            bins[number] += share * max(0.0, part)
    return [round(value * SCALE) for value in bins]
