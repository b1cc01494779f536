"""Weighs networks for joins together and writes them where the door reads them.

    python -m research.joins.together --data SPEECH --work WORK NETWORK.npz ... [--out device/liveness]

What each network's parts count, the maps of each and of their mean to an LLR are fitted on the people kept
for calibration (`research.joins.judged`), in usual sound, beside voices and beside ward sounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import device.liveness
from device.liveness.joins import JoinNetworks
from research.joins.fit import write
from research.joins.judged import SETS, judged
from sync.plain_file import LARGE_BYTES, plain_bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.joins.together",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("--out", type=Path, default=Path(device.liveness.__file__).parent)
    parser.add_argument("networks", type=Path, nargs="+", help="files, each of one network or several")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    files = [JoinNetworks.from_bytes(plain_bytes(path, LARGE_BYTES)) for path in args.networks]
    kept = [one for kind in SETS for one in judged(args.data, args.work, kind)]
    write(args.out, [network for each in files for network in each.members], kept)


if __name__ == "__main__":
    main()
