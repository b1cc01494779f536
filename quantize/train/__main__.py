"""Trains the live check again for a new attack in the field, from its samples to a signed bundle.

python -m quantize.train update --samples NEW --data SPEECH --attacks ATTACKS --work WORK \\
    --bundle BUNDLE --key RELEASE.pem --out CANDIDATE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from device.errors import DeviceError
from quantize.errors import QuantizeError
from quantize.networks.spoof import WEIGHTS
from quantize.train.update import update
from sync.plain_words import what_and_why


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantize.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser(
        "update", help="train again with samples of a new attack, compare, and sign a bundle"
    )
    for name, text in (
        ("samples", "a folder of sound files per attack"),
        ("data", "folder with manifest.tsv"),
        ("attacks", "folder with attacks.tsv"),
        ("work", "renderings and scores are kept here"),
        ("bundle", "the bundle to replace the detector in"),
        ("key", "Ed25519 private key, PEM"),
        ("out", "the new folder for weights, comparison and bundle"),
    ):
        one.add_argument(f"--{name}", type=Path, required=True, help=text)
    one.add_argument("--passes", type=int, default=5, help="renderings of each file to train on")
    one.add_argument("--current", type=Path, default=WEIGHTS, help="the detector to compare with")
    return parser


def main() -> int:
    given = vars(_parser().parse_args())
    given.pop("command")
    try:
        update(**given)
    except (QuantizeError, DeviceError, OSError) as err:
        sys.stderr.write(f"error: {what_and_why(err) if isinstance(err, OSError) else err}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
