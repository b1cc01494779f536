"""Trains, judges and exports the spoof detector.

python -m quantize.train.attacks --data SPEECH --out ATTACKS
python -m quantize.train bank --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train folds --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train final --data SPEECH --attacks ATTACKS --work WORK

and, for a new attack in the field, from its samples to a signed bundle:

python -m quantize.train update --samples NEW --data SPEECH --attacks ATTACKS --work WORK \\
    --bundle BUNDLE --key RELEASE.pem --out CANDIDATE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quantize.errors import QuantizeError

WEIGHTS = Path(__file__).parent / "weights"
STEPS = {
    "bank": "render every file several times, for both networks (the long step; it can be interrupted)",
    "folds": "train on part, judge on pages, systems and corpora never heard",
    "final": "train on everything but the calibration part, calibrate, quantise, export",
    "update": "train again with samples of a new attack, compare, and sign a bundle",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantize.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in STEPS.items():
        one = commands.add_parser(name, help=text)
        one.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
        one.add_argument("--attacks", type=Path, required=True, help="folder with attacks.tsv")
        one.add_argument("--work", type=Path, required=True, help="caches, weights and scores")
        if name in ("bank", "update"):
            one.add_argument("--passes", type=int, default=5, help="renderings of each file to train on")
        if name in ("folds", "final"):
            one.add_argument("--seed", type=int, default=1)
        if name == "final":
            one.add_argument(
                "--keep", action="store_true", help="calibrate and export the weights in OUT again"
            )
            one.add_argument("--moments", type=Path, help="a second network to take instead of training one")
            one.add_argument("--requantise", action="store_true", help="only make the eight bits anew")
            one.add_argument("--out", type=Path, default=WEIGHTS)
        if name == "update":
            one.add_argument("--samples", type=Path, required=True, help="a folder of sound files per attack")
            one.add_argument("--current", type=Path, default=WEIGHTS, help="the detector to compare with")
            one.add_argument("--bundle", type=Path, required=True, help="the bundle to replace it in")
            one.add_argument("--key", type=Path, required=True, help="Ed25519 private key, PEM")
            one.add_argument("--out", type=Path, required=True)
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.command == "bank":
        from quantize.train.speech.bank import fill

        args.work.mkdir(parents=True, exist_ok=True)
        fill(args.data, args.attacks, args.work, args.passes)
    elif args.command == "update":
        from quantize.train.update import update

        update(args)
    else:
        from quantize.train import folds, release
        from quantize.train.fitting.fit import FitSettings
        from quantize.train.speech import corpus

        settings = FitSettings(seed=args.seed)
        if args.command == "final":
            release.release(args, settings)
        else:
            items = corpus.load(args.data, args.attacks, args.work)
            folds.run(items, args.data, args.work, settings)


def main() -> int:
    try:
        _run(_parser().parse_args())
    except QuantizeError as err:
        sys.stderr.write(f"error: {err}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
