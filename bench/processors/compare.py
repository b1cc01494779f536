"""The answers of `bench/processors/decisions.py` on several processors, side by side.

    python -m bench.processors.compare here.json haswell.json cortex-a72.json --out docs/processors.md

`scripts/check-processors` makes the files and runs it.

The first file is what the others are compared with. Exit code 1 when a score strays or a decision flips.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CHECKS = ("words", "voice", "live")
TOLERANCE = 0.5
"""Of an LLR, between processors: what the self-test of every unit allows as well."""
THRESHOLDS = {"words": 2.0, "voice": 3.0, "live": 0.0}
"""Of the default rules."""
HEADINGS = (
    "processor",
    "class",
    "Python, NumPy, ONNX Runtime",
    "bundle built there",
    "self-test: words, voice, live",
    "attempts: words, voice, live",
    "decided otherwise",
    "s",
)


def largest(check: str, reference: dict[str, Any], other: dict[str, Any]) -> float:
    """Infinite where a score is no number."""
    pairs = zip(reference["scores"], other["scores"], strict=True)
    differences = [abs(a[check] - b[check]) for a, b in pairs]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def tested(one: dict[str, Any]) -> str:
    """The self-test's largest difference of each check, from the answers that the release committed."""
    return ", ".join(
        f"{test['difference']:.3f}" + ("" if test["passed"] else f" in {test['form']}, which is left out")
        for test in one["self_test"]
    )


def flips(reference: dict[str, Any], other: dict[str, Any]) -> int:
    """How many attempts would be decided otherwise."""

    def passes(score: dict[str, float]) -> bool:
        return all(score[check] >= THRESHOLDS[check] for check in CHECKS)

    pairs = zip(reference["scores"], other["scores"], strict=True)
    return sum(passes(a) != passes(b) for a, b in pairs)


def built(reference: dict[str, Any], other: dict[str, Any]) -> str:
    """Whether the bundle that was built there holds the same bytes."""
    if "built" not in other:
        return "not tried"
    differing = [role for role, digest in other["built"].items() if reference["files"].get(role) != digest]
    return f"differ: {', '.join(differing)}" if differing else f"all {len(other['built'])} files equal"


def page(found: dict[str, dict[str, Any]]) -> str:
    names = list(found)
    reference = found[names[0]]
    rows = []
    for name, one in found.items():
        drift = ", ".join(f"{largest(check, reference, one):.3f}" for check in CHECKS)
        versions = f"{one['python']}, {one['numpy']}, {one['onnxruntime']}"
        rows.append(
            f"| {name} | {one['class']} | {versions} | {built(reference, one)} | {tested(one)} | {drift} "
            f"| {flips(reference, one)} of {len(one['scores'])} | {one['seconds']:.0f} |"
        )
    table = "\n".join(rows)
    return f"""# The same answers on every processor

Measured on {datetime.now(UTC):%Y-%m-%d} by `scripts/check-processors --write`. On each processor: the
self-test, with the largest difference of an LLR from the answers that the release committed; twelve
attempts (six recordings that packages carry, each with the words that were said and with others) judged
with the same bundle, with the largest difference from the first row; and a bundle built from the pinned
sources, compared byte by byte with the first row's. {TOLERANCE:g} is the most that is accepted. Emulated
processors run under qemu-user 10, which computes as they do, but slowly: the seconds are no measure of a
board.

| {" | ".join(HEADINGS)} |
|{"---|" * len(HEADINGS)}
{table}
"""


def faults(found: dict[str, dict[str, Any]]) -> list[str]:
    """What strays from the first, a line each."""
    reference = next(iter(found.values()))
    lines = []
    for name, one in found.items():
        for check in CHECKS:
            if largest(check, reference, one) > TOLERANCE:
                lines.append(f"{name}: {check} strays by {largest(check, reference, one):.3f}")
        if count := flips(reference, one):
            lines.append(f"{name}: {count} attempts are decided otherwise")
        if (bytes_there := built(reference, one)).startswith("differ"):
            lines.append(f"{name}: files of the bundle {bytes_there}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="what `decisions` printed, named by processor")
    parser.add_argument("--out", type=Path, help="Write the page here; else to standard output.")
    given = parser.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in given.files}
    text = page(found)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    sys.exit("\n".join(faults(found)) or 0)


if __name__ == "__main__":
    main()
