"""Trains, judges and exports the spoof detector.

python -m quantize.train.attacks --data SPEECH --out ATTACKS
python -m quantize.train bank --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train folds --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train final --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train probe --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train report --work WORK [--baseline SCORES.tsv]
"""

from __future__ import annotations

import argparse
from pathlib import Path

STEPS = {
    "bank": "render every file several times and pool its patches (the long step; it can be interrupted)",
    "folds": "train on part, judge on pages, systems and corpora never heard",
    "final": "train on everything but the calibration part, calibrate, quantise, export",
    "probe": "how far length, level, silence and bandwidth alone would get",
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
        if name == "bank":
            one.add_argument("--passes", type=int, default=5, help="renderings of each file to train on")
        if name in ("folds", "final"):
            one.add_argument("--seed", type=int, default=1)
        if name == "final":
            one.add_argument("--keep", action="store_true", help="calibrate and export WORK/final.pt again")
            one.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    report = commands.add_parser("report", help="tables from the folds' scores")
    report.add_argument("--work", type=Path, required=True)
    report.add_argument(
        "--baseline", type=Path, help="another detector's scores: path and score, tabs between"
    )
    return parser


def main() -> None:
    args = _parser().parse_args()
    if args.command == "report":
        from quantize.train.report import report

        report(args.work, args.baseline)
    elif args.command == "bank":
        from quantize.train.bank import fill

        args.work.mkdir(parents=True, exist_ok=True)
        fill(args.data, args.attacks, args.work, args.passes)
    elif args.command == "probe":
        from quantize.train.probe import probe

        probe(args)
    else:
        from quantize.train import corpus, folds, release
        from quantize.train.fit import FitSettings

        settings = FitSettings(seed=args.seed)
        if args.command == "final":
            release.release(args, settings)
        else:
            folds.run(corpus.load(args.data, args.attacks, args.work), args.work, settings)


if __name__ == "__main__":
    main()
