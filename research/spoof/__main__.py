"""Experiments on the spoof detector: what the figures of ADR 12 to 17 and of the model card come from.

python -m research.spoof leaveout --data SPEECH --attacks ATTACKS --work WORK
python -m research.spoof classical --data SPEECH --attacks ATTACKS --work WORK
python -m research.spoof limits --data SPEECH --attacks ATTACKS --work WORK
python -m research.spoof probe --data SPEECH --attacks ATTACKS --work WORK
python -m research.spoof baselines --data SPEECH --attacks ATTACKS --work WORK [--encoder ENCODER.onnx]
python -m research.spoof phrases
python -m research.spoof conditions --data SPEECH [--keep FILE] [--most N]
python -m research.spoof inverse --data SPEECH [--each N]
python -m research.spoof rates --data SPEECH [--each N]
python -m research.spoof redteam --data SPEECH [--fakes N] [--tries N] [--plots DIR]
python -m research.spoof report --work WORK [--baseline SCORES.tsv] [--plots DIR]

`python -m research.detector bank`, `folds` and `final` make the files, the folds and the detector itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from quantize.errors import QuantizeError

WEIGHTS = Path(__file__).parents[2] / "quantize" / "train" / "weights"
STEPS = {
    "leaveout": "the detector without each page and each system in turn, and without its second network",
    "classical": "known classical synthesisers, in voices, texts and by speakers never heard",
    "limits": "what hides the beat of frames, and what puts one into people",
    "probe": "how far length, level, silence and bandwidth alone would get",
    "baselines": "how far pooled LFCC, and a pooled Whisper encoder, get on the same splits",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m research.spoof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in STEPS.items():
        one = commands.add_parser(name, help=text)
        one.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
        one.add_argument("--attacks", type=Path, required=True, help="folder with attacks.tsv")
        one.add_argument("--work", type=Path, required=True, help="caches, weights and scores")
        if name == "leaveout":
            one.add_argument("--seed", type=int, default=1)
            one.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="models trained at a time")
        if name == "baselines":
            one.add_argument("--encoder", type=Path, help="the bundle's words-encoder")
        if name == "limits":
            one.add_argument("--plots", type=Path, help="folder to draw frame rates into")
    phrases = commands.add_parser("phrases", help="the released detector on door phrases and on people")
    phrases.add_argument("--each", type=int, default=4, help="phrases of every voice")
    phrases.add_argument("--seed", type=int, default=9)
    conditions = commands.add_parser(
        "conditions", help="the bundle in use, by condition, on systems and people that it never heard"
    )
    conditions.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
    conditions.add_argument("--keep", type=Path, help="file of scores: what stands in it is not heard again")
    conditions.add_argument(
        "--most", type=int, default=12, help="files of each system, and a third of each page's people"
    )
    for name, text in (
        ("inverse", "what vocoders that end in an inverse STFT leave behind, on copies and on systems"),
        ("rates", "what finding rates more finely, and counting pauses less, does to the frame rates"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
        one.add_argument("--each", type=int, default=4, help="files of each system")
    redteam = commands.add_parser("redteam", help="tries it takes somebody who knows the detector")
    redteam.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
    redteam.add_argument("--fakes", type=int, default=20)
    redteam.add_argument("--tries", type=int, default=32, help="of each attacker at each fake")
    redteam.add_argument("--plots", type=Path, help="folder to draw tries against success into")
    report = commands.add_parser("report", help="tables from the folds' scores")
    report.add_argument("--work", type=Path, required=True)
    report.add_argument(
        "--baseline", type=Path, help="another detector's scores: path and score, tabs between"
    )
    report.add_argument("--plots", type=Path, help="folder to draw trade-offs and systems into")
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.command == "report":
        from research.spoof.report import report

        report(args.work, args.baseline, args.plots)
    elif args.command == "phrases":
        from research.spoof import phrases

        phrases.run(WEIGHTS, args.each, args.seed)
    elif args.command == "conditions":
        from research.spoof import conditions

        conditions.run(args.data, args.keep, args.most)
    elif args.command == "inverse":
        from research.spoof import inverse

        inverse.run(args.data, args.each)
    elif args.command == "rates":
        from research.spoof import rates

        rates.run(args.data, args.each)
    elif args.command == "redteam":
        from research.spoof import redteam

        redteam.run(args.data, args.fakes, args.tries, args.plots)
    elif args.command == "probe":
        from research.spoof.probe import probe

        probe(args)
    elif args.command == "classical":
        from research.spoof import classical

        classical.run(args.data, args.attacks, args.work, WEIGHTS / "spoof.json")
    elif args.command == "limits":
        from research.spoof import limits

        limits.run(args.data, args.attacks, args.work, WEIGHTS / "spoof.json", args.plots)
    elif args.command == "baselines":
        from research.spoof.baselines import baselines

        baselines(args)
    else:
        from quantize.train.fitting.fit import FitSettings
        from research.spoof import leaveout

        leaveout.run(args.data, args.attacks, args.work, FitSettings(seed=args.seed), args.jobs)


def main() -> int:
    try:
        _run(_parser().parse_args())
    except QuantizeError as err:
        sys.stderr.write(f"error: {err}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
