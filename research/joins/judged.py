"""Says what a network for joins is worth on the people kept for calibration.

    python -m research.joins.judged --data SPEECH --work WORK [NETWORK.npz ...]

What its parts count is weighed on one half of them and judged on the other, and the other way round. None of
them trains a network, so networks are chosen here; `ostiary evaluate --only splices` judges once, on others.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from device.access.policy import Thresholds
from device.liveness.join_pictures import features, repeats
from device.liveness.joins import REPEAT_FROM, JoinNetwork, JoinNetworks, shipped_network, summaries
from device.liveness.weights import shipped
from quantize.evaluate.figures.calibrate import Linear, fit
from quantize.evaluate.splices.measure import CONDITIONS, heard, renditions
from research.joins.spliced import VOICES, WARD, Corpus, Example, calibrates
from sync.plain_file import LARGE_BYTES, plain_bytes

USUAL, DOOR = "usual", "door"
SETS = {USUAL: (901, 3_000), VOICES: (902, 1_000), WARD: (903, 1_000)}
"""A seed and how many examples; half of them are pasted."""


def judged(data: Path, work: Path, kind: str) -> list[Example]:
    """Examples of the people kept for calibration, none of a machine."""
    corpus = Corpus(data, work, "" if kind == USUAL else kind)
    corpus.names = [name for name in corpus.names if calibrates(name)]
    corpus.machines = []
    if kind == WARD:
        corpus.ward = corpus.ward[::5]
    dice = np.random.default_rng(SETS[kind][0])
    return [corpus.example(dice) for _ in range(SETS[kind][1])]


def at_the_door(data: Path, work: Path) -> list[Example]:
    """The same people as `ostiary evaluate --only splices` hears its own: ways, styles and conditions."""
    corpus = Corpus(data, work)
    sources = {name: theirs for name, theirs in corpus.people.items() if calibrates(name)}
    none = np.zeros(0, np.float32)
    people = [
        Example(features(wave).astype(np.float16), none, person, condition)
        for condition in CONDITIONS
        for person, wave, _ in heard(sources, condition, corpus.noises)
    ]
    return people + [
        Example(features(one.wave).astype(np.float16), np.array(one.joins_s, np.float32), person, f"{name}:")
        for name, person, one in renditions(sources)
    ]


def evidence(network: JoinNetwork, pictures: np.ndarray) -> np.ndarray:
    """(what is pooled, the highest frames, what is repeated), each higher for a splice."""
    alike = repeats(pictures)
    found = network.of_pictures(pictures, alike)
    highest = summaries(found.frames)
    repeated = max(0.0, alike - REPEAT_FROM)
    pooled = -found.score - highest @ network.peaks - network.repeated[0] * repeated
    return np.array([pooled, *highest, repeated])


def other_half(person: str) -> bool:
    return hashlib.sha256(f"half {person}".encode()).digest()[0] % 2 == 1


def llrs(
    networks: JoinNetworks, sets: dict[str, Sequence[Example]], weigh: Callable[..., Linear] = fit
) -> dict[str, np.ndarray]:
    """By set the LLR of each, the mean of the networks', from maps that were fitted on the other half of the
    people, without DOOR."""
    made = {kind: np.zeros(len(every)) for kind, every in sets.items()}
    for network in networks.members:
        for kind, found in _weighed_by_others(network, sets, weigh).items():
            made[kind] += found / len(networks.members)
    return made


def _weighed_by_others(
    network: JoinNetwork, sets: dict[str, Sequence[Example]], weigh: Callable[..., Linear]
) -> dict[str, np.ndarray]:
    found = {
        kind: -np.array([evidence(network, one.pictures.astype(np.float32)) for one in every])
        for kind, every in sets.items()
    }
    made = {kind: np.zeros(len(every)) for kind, every in sets.items()}
    for half in (False, True):
        weighed = {True: [], False: []}
        for kind, every in sets.items():
            for one, row in zip(every, found[kind], strict=True):
                if kind != DOOR and other_half(one.person) != half:
                    weighed[one.spliced].append(row)
        line = weigh(np.array(weighed[False]), np.array(weighed[True]), prior=0.5)
        for kind, every in sets.items():
            here = np.array([other_half(one.person) == half for one in every])
            made[kind][here] = found[kind][here] @ line.weights + line.offset
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.joins.judged",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("networks", type=Path, nargs="*", help="to compare with the one of this version")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sets = {kind: judged(args.data, args.work, kind) for kind in SETS}
    sets[DOOR] = at_the_door(args.data, args.work)
    at_doors = as_shipped(sets)
    limits = Thresholds()
    bars = (limits.joins_llr or 0.0, (limits.joins_llr or 0.0) + limits.joins_doubt_llr)
    people = np.concatenate([_of(at_doors, sets, kind, False) for kind in SETS])
    counts = [int(np.sum(people < bar)) for bar in bars]
    _say("as shipped", at_doors, sets, bars)
    candidates = {
        path.name: JoinNetworks.from_bytes(plain_bytes(path, LARGE_BYTES)) for path in args.networks
    }
    for name, networks in {"this version's, weighed anew": shipped_network(), **candidates}.items():
        found = llrs(networks, sets)
        people = np.sort(np.concatenate([_of(found, sets, kind, False) for kind in SETS]))
        _say(name, found, sets, (people[counts[0]], people[counts[1]]))


def as_shipped(sets: dict[str, Sequence[Example]]) -> dict[str, np.ndarray]:
    """By set the LLR that a door gives each."""
    networks, weights = shipped_network(), shipped()
    return {
        kind: np.array(
            [weights.joins.llr(networks.of_pictures(one.pictures.astype(np.float32)).score) for one in every]
        )
        for kind, every in sets.items()
    }


def _of(found: dict[str, np.ndarray], sets: dict[str, Sequence[Example]], kind: str, pasted: bool):
    return found[kind][np.array([one.spliced is pasted for one in sets[kind]])]


def _say(name, found, sets, bars) -> None:
    """Bars of two networks that hold up as many people can be compared."""
    refused, clear = bars
    for kind in sets:
        people, pastes = (_of(found, sets, kind, pasted) for pasted in (False, True))
        print(
            f"{name}, {kind}: of {len(people)} recordings of people {np.sum(people < refused)} refused, "
            f"{np.sum(people < clear)} held up; of {len(pastes)} pastes "
            f"{np.mean(pastes >= refused):.1%} pass, {np.mean(pastes >= clear):.1%} at once"
        )


if __name__ == "__main__":
    main()
