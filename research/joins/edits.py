"""Teaches the network for joins what edits of a recording sound like, for `ostiary inspect`.

    python -m research.joins.edits --data SPEECH --work WORK [--out device/inspection]

It goes on from the door's network (`python -m research.joins`): the same people, but two examples in five
have words taken out, put in or exchanged. Four fifths of the fitting half train it; on the last fifth the
ratios of the whole and of a place are fitted. `ostiary evaluate --only evidence` judges.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import device.inspection
from device.audio.utterance import SAMPLE_RATE_HZ
from device.inspection.findings import least_live
from device.inspection.places import APART_S, LOWEST_LOGIT, MARK_LLR, about, peaks
from device.liveness.joins import JoinNetwork, Joins, shipped_network
from device.settings import models_dir
from quantize.evaluate.campaigns.sources import TAUGHT
from quantize.evaluate.checks.opened import open_spoof
from quantize.evaluate.figures.calibrate import Linear, fit, fits
from quantize.evaluate.inspection.files import SHORTEST_S, files, whole
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.evaluate.recordings.sound import read_wave
from research.joins.further import further, packed
from research.joins.spliced import Corpus, calibrates, examples

EDITED = 0.4
EPOCHS = 3.0
EACH = 240
"""Files of each kind on which the ratios are fitted."""


def calibrated(network: JoinNetwork, corpus: Corpus, live: Linear, detector: str) -> str:
    """weights.toml: the ratios of a person, of one go and of a place."""
    people = {name: theirs for name, theirs in corpus.people.items() if calibrates(name)}
    every = list(files([], people, corpus.data, EACH))
    alone = list(whole(people))
    heard, heard_alone = [network(one.wave) for one in every], [network(one.wave) for one in alone]
    edited = np.array([bool(one.edit) for one in every])
    scores = np.array([found.score for found in heard])
    go = fit(
        np.concatenate([scores[~edited], [found.score for found in heard_alone]]), scores[edited], prior=0.5
    )
    true, false = [], []
    for one, found in [*zip(every, heard, strict=True), *zip(alone, heard_alone, strict=True)]:
        for at, what in _candidates(found, go):
            if not _near(at, one.edges_s) or _near(at, one.joins_s):
                (true if _near(at, one.joins_s) else false).append(what)
    place = fit(np.array(true), np.array(false), prior=0.5)
    minutes = sum(one.seconds for one in (*every, *alone)) / 60.0
    wrong = int(np.sum(place.llr(np.array(false)) >= MARK_LLR))
    right = [
        any(
            abs(at - join) <= APART_S and place.llr([what])[0] >= MARK_LLR
            for at, what in _candidates(found, go)
        )
        for one, found in zip(every, heard, strict=True)
        for join in one.joins_s
    ]
    sys.stderr.write(
        f"{len(every)} files and {len(alone)} whole recordings of {len(people)} people: "
        f"{np.mean(right):.1%} of {len(right)} joins are marked, and {wrong} places in "
        f"{minutes:.0f} minutes that are none\n"
    )
    weights = ", ".join(f"{one:.4f}" for one in place.weights)
    return (
        "# Written by `python -m research.joins.edits`. LLRs are natural-log.\n"
        f'version = "inspection-{datetime.now(UTC):%Y%m%d}"\n\n'
        "[live]               # a person against systems never taught, from the live check's LLR\n"
        f'detector = "{detector}"\n'
        f"scale = {live.weights[0]:.4f}\noffset = {live.offset:.4f}\n\n"
        "[whole]              # one go against edits, from the network's score\n"
        f"scale = {go.weights[0]:.4f}\noffset = {go.offset:.4f}\n\n"
        "[place]              # an edit here against none, of what `places.about` gives\n"
        f"weights = [{weights}]\noffset = {place.offset:.4f}\n"
    )


def untaught(data: Path) -> tuple[Linear, str]:
    """The map of the live check's LLR, and that check's version; from people and systems of the fitting half,
    without pages that the detector was taught on."""
    check = open_spoof(models_dir())
    llrs: dict[bool, list[float]] = {False: [], True: []}
    for one in read_manifest(data / "manifest.tsv", data):
        made = one.label == "spoof"
        who = one.system if made else one.speaker
        if one.folder in TAUGHT or not who or not fits(who):
            continue
        wave = read_wave(data / one.path)
        if len(wave) >= SHORTEST_S * SAMPLE_RATE_HZ:
            llrs[made].append(least_live(wave, check))
    sys.stderr.write(f"{len(llrs[False])} recordings of people, {len(llrs[True])} of systems never taught\n")
    return fit(np.array(llrs[False]), np.array(llrs[True]), prior=0.5), check.version


def _candidates(found: Joins, go: Linear) -> list[tuple[float, np.ndarray]]:
    llr = float(go.llr([found.score])[0])
    return [(at, about(logit, llr)[0]) for at, logit in peaks(found.frames, LOWEST_LOGIT)]


def _near(at: float, places: tuple[float, ...]) -> bool:
    return any(abs(at - one) <= APART_S for one in places)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.joins.edits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("--examples", type=int, default=7_500)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(device.inspection.__file__).parent)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    every = examples(args.data, args.work, args.examples, args.workers, EDITED)
    chosen = [one for one in every if not calibrates(one.person)]
    network = further(shipped_network().members[0], chosen, args.epochs)
    (args.out / "edits.npz").write_bytes(packed({name: getattr(network, name) for name in network.__slots__}))
    text = calibrated(network, Corpus(args.data, args.work), *untaught(args.data))
    (args.out / "weights.toml").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
