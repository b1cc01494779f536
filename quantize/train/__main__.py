"""Trains, judges and exports the spoof detector.

python -m quantize.train.attacks --data SPEECH --out ATTACKS
python -m quantize.train bank --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train folds --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train leaveout --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train final --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train classical --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train limits --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train probe --data SPEECH --attacks ATTACKS --work WORK
python -m quantize.train baselines --data SPEECH --attacks ATTACKS --work WORK [--encoder ENCODER.onnx]
python -m quantize.train phrases
python -m quantize.train report --work WORK [--baseline SCORES.tsv] [--plots DIR]

and, for a new attack in the field, from its samples to a signed bundle:

python -m quantize.train update --samples NEW --data SPEECH --attacks ATTACKS --work WORK \\
    --bundle BUNDLE --key RELEASE.pem --out CANDIDATE
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from quantize.errors import QuantizeError

WEIGHTS = Path(__file__).parent / "weights"
STEPS = {
    "bank": "render every file several times, for both networks (the long step; it can be interrupted)",
    "folds": "train on part, judge on pages, systems and corpora never heard",
    "leaveout": "the same with every page, and every system, left out in turn (without the second network)",
    "final": "train on everything but the calibration part, calibrate, quantise, export",
    "classical": "known classical synthesisers, in voices, texts and by speakers never heard",
    "limits": "what hides the beat of frames, and what puts one into people",
    "probe": "how far length, level, silence and bandwidth alone would get",
    "baselines": "how far pooled LFCC, and a pooled Whisper encoder, get on the same splits",
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
        if name in ("folds", "leaveout", "final"):
            one.add_argument("--seed", type=int, default=1)
        if name == "leaveout":
            one.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="models trained at a time")
        if name == "final":
            one.add_argument(
                "--keep", action="store_true", help="calibrate and export the weights in OUT again"
            )
            one.add_argument("--moments", type=Path, help="a second network to take instead of training one")
            one.add_argument("--requantise", action="store_true", help="only make the eight bits anew")
            one.add_argument("--out", type=Path, default=WEIGHTS)
        if name == "baselines":
            one.add_argument("--encoder", type=Path, help="the bundle's words-encoder")
        if name == "limits":
            one.add_argument("--plots", type=Path, help="folder to draw frame rates into")
        if name == "update":
            one.add_argument("--samples", type=Path, required=True, help="a folder of sound files per attack")
            one.add_argument("--current", type=Path, default=WEIGHTS, help="the detector to compare with")
            one.add_argument("--bundle", type=Path, required=True, help="the bundle to replace it in")
            one.add_argument("--key", type=Path, required=True, help="Ed25519 private key, PEM")
            one.add_argument("--out", type=Path, required=True)
    phrases = commands.add_parser("phrases", help="the released detector on door phrases and on people")
    phrases.add_argument("--each", type=int, default=4, help="phrases of every voice")
    phrases.add_argument("--seed", type=int, default=9)
    report = commands.add_parser("report", help="tables from the folds' scores")
    report.add_argument("--work", type=Path, required=True)
    report.add_argument(
        "--baseline", type=Path, help="another detector's scores: path and score, tabs between"
    )
    report.add_argument("--plots", type=Path, help="folder to draw trade-offs and systems into")
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.command == "report":
        from quantize.train.report import report

        report(args.work, args.baseline, args.plots)
    elif args.command == "phrases":
        from quantize.train import phrases

        phrases.run(WEIGHTS, args.each, args.seed)
    elif args.command == "bank":
        from quantize.train.bank import fill

        args.work.mkdir(parents=True, exist_ok=True)
        fill(args.data, args.attacks, args.work, args.passes)
    elif args.command == "probe":
        from quantize.train.probe import probe

        probe(args)
    elif args.command == "classical":
        from quantize.train import classical

        classical.run(args.data, args.attacks, args.work, WEIGHTS / "spoof.json")
    elif args.command == "limits":
        from quantize.train import limits

        limits.run(args.data, args.attacks, args.work, WEIGHTS / "spoof.json", args.plots)
    elif args.command == "baselines":
        from quantize.train.baselines import baselines

        baselines(args)
    elif args.command == "update":
        from quantize.train.update import update

        update(args)
    else:
        from quantize.train import corpus, folds, leaveout, release
        from quantize.train.fit import FitSettings

        settings = FitSettings(seed=args.seed)
        if args.command == "final":
            release.release(args, settings)
        elif args.command == "leaveout":
            leaveout.run(args.data, args.attacks, args.work, settings, args.jobs)
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
