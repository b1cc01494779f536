"""Makes the spoof detector that ships, and its folds.

python -m research.attacks --data SPEECH --out ATTACKS
python -m research.detector bank --data SPEECH --attacks ATTACKS --work WORK
python -m research.detector folds --data SPEECH --attacks ATTACKS --work WORK
python -m research.detector final --data SPEECH --attacks ATTACKS --work WORK
python -m research.detector people --data SPEECH --work WORK

Besides SPEECH they read people recorded in packages of Debian, and stop where one is missing, saying which.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from device.models.spoof.envelopes import EnvelopeHead
from device.models.spoof.norms import BonaFideNorms
from quantize.errors import QuantizeError
from quantize.networks.spoof import ENVELOPES, WEIGHTS
from quantize.train.fitting.fit import FitSettings
from quantize.train.fitting.norms import norms_of
from quantize.train.judge import Detectors
from quantize.train.networks.moments import Moments
from quantize.train.networks.network import Texture
from quantize.train.release import (
    CARD,
    MOMENTS,
    TEXTURE,
    identity,
    load_weights,
    publish,
    quantised,
    release,
    rendered,
    write,
)
from quantize.train.speech import bank, corpus
from quantize.train.speech.augment import Augmenter, noises
from quantize.train.speech.replay import rooms
from quantize.train.speech.scoring import render
from research.detector import folds, patches, people, pictures, splits
from sync.plain_file import plain_bytes

STEPS = {
    "bank": "render every file several times, for both networks (the long step; it can be interrupted)",
    "folds": "train on part, judge on pages, systems and corpora never heard",
    "final": "train on everything but the calibration part, calibrate, quantise, export",
    "people": "fit anew what people alone fit: norms of frame rates, zeros, operating points",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m research.detector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in STEPS.items():
        one = commands.add_parser(name, help=text)
        one.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
        if name != "people":
            one.add_argument("--attacks", type=Path, required=True, help="folder with attacks.tsv")
        one.add_argument("--work", type=Path, required=True, help="caches, weights and scores")
        if name == "bank":
            one.add_argument("--passes", type=int, default=5, help="renderings of each file to train on")
        elif name != "people":
            one.add_argument("--seed", type=int, default=1)
        if name == "final":
            one.add_argument(
                "--keep", action="store_true", help="calibrate and export the weights in OUT again"
            )
            one.add_argument("--moments", type=Path, help="a second network to take instead of training one")
            one.add_argument("--requantise", action="store_true", help="only make the eight bits anew")
        if name in ("final", "people"):
            one.add_argument("--out", type=Path, default=WEIGHTS)
    return parser


def fill(items, data: Path, work: Path, passes: int) -> None:
    """Everything that folds, leave-one-out and the final training read, as far as WORK lacks it."""
    (train_rooms, test_rooms), (train_noise, test_noise) = rooms(data), noises(data)
    patches.learn(items, Augmenter(train_rooms, train_noise), work)
    bank.fill(items, data, work, passes)

    def replayed(item):
        return render(item, "replayed", test_rooms, test_noise), True

    bank.keep(work, "judge-replayed", splits.judging(items), bank.patch_layer(work), replayed)
    pictures.fill(items, data, work)


def final(items, args: argparse.Namespace) -> None:
    """The shipped detector: trained, with `--keep` only calibrated, with `--requantise` only rounded."""
    settings, heard = FitSettings(seed=args.seed), corpus.training(items)
    if not (args.keep or args.requantise):
        moments = (
            load_weights(Moments(), args.moments) if args.moments else folds.second(args.work, "final", heard)
        )
        return release(items, moments, args.data, args.work, args.out, settings)
    card = json.loads(plain_bytes(args.out / CARD))
    head = EnvelopeHead.from_bytes(plain_bytes(args.out / ENVELOPES))
    nets = load_weights(Texture(), args.out / TEXTURE), load_weights(Moments(), args.out / MOMENTS)
    if not args.requantise:
        detectors = Detectors(*nets, head, norms_of(heard))
        return publish(detectors, card["zeros"], items, card["trained_on"], args.data, args.work, args.out)
    # The card keeps its calibration, which was fitted on float scores.
    norms = BonaFideNorms(**{name: np.array(part) for name, part in card["null"].items()})
    kept = rendered(corpus.calibration(items), args.data)
    network, parity = quantised(Detectors(*nets, head, norms), heard, kept, card["calibration"])
    named = identity(network, head.to_bytes(), card["calibration"], card["null"])
    return write(args.out, network, head.to_bytes(), {**card, **named, "parity": parity})


def main() -> int:
    args = _parser().parse_args()
    if missing := corpus.absent():
        told = f"people of the shipped detector are missing: apt-get install {' '.join(missing)}"
        sys.stderr.write(f"error: {told}\n")
        return 3
    try:
        if args.command == "people":
            people.refit(args.data, args.work, args.out)
            return 0
        items = corpus.load(args.data, args.attacks, args.work)
        if args.command == "bank":
            fill(items, args.data, args.work, args.passes)
        elif args.command == "folds":
            folds.run(items, args.data, args.work, FitSettings(seed=args.seed))
        else:
            final(items, args)
    except QuantizeError as err:
        sys.stderr.write(f"error: {err}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
