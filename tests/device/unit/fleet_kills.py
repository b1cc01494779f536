"""`scripts/fleet-kills`: a unit that applies a document is killed at one write after the other."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.device.unit.test_fleet_apply import kills


def main(at_most: int) -> int:
    with tempfile.TemporaryDirectory(prefix="ostiary-kills-") as folder:
        seen = kills(Path(folder), at_most)
    print(
        f"{seen.killed} kills: {seen.old} times the old, {seen.new} times the new, mixtures {seen.mixtures}"
    )
    return 1 if seen.mixtures else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
