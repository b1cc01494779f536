"""Fits the map from the detector's statistics to prints: synthesisers apart, all people as one.

    python -m quantize.train.prints --manifest data/manifest.tsv --root data \\
        --out device/models/spoof/prints.npz

Linear discriminants (Fisher) with one class for each system and one for everybody, people counted fourfold,
the spread within classes shrunk to its mean. The likeness that a match needs is chosen on the fitted side
alone, with whole systems and people left out in turn; `ostiary evaluate --only campaigns` judges by others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from device.models.spoof.envelopes import STATISTICS, envelopes
from device.models.spoof.prints import VALUES, Printer
from quantize.evaluate.campaigns.sources import chosen, dice, listen, made
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.playback import Playback, Room, pink, play, random_playback, reverberate, rms

VERSION = "prints-1"
PEOPLE = ""
PEOPLE_COUNT = 4
SHRINKAGE = 0.3
FOLDS = 4
FALSE_SHARE = 1e-3
RENDERINGS = 2


def rendered(said, number):
    """As a door may hear it: people in a room, attacks through some loudspeaker too."""
    chance = said.dice(f"fit {number}")
    playback: Playback = random_playback(chance)
    wave = play(playback.loudspeaker, said.wave) if said.attack else said.wave
    heard = reverberate(
        wave, Room(float(chance.uniform(0.15, 0.5)), float(chance.uniform(3.0, 12.0))), chance
    )
    noise = pink(len(heard), chance) * rms(heard) * 10.0 ** (-chance.uniform(18.0, 35.0) / 20.0)
    return (heard + noise).astype(np.float32)


def measured(people_and_attacks):
    """(statistics (n, STATISTICS), who (n,)); people are PEOPLE."""
    found, who = [], []
    for said in track(people_and_attacks, description="listening"):
        for number in range(RENDERINGS):
            found.append(envelopes(rendered(said, number)))
            who.append((said.who, said.attack))
    return np.array(found, np.float32), who


def fit(found, classes) -> Printer:
    """`classes` is a system's name for each row, PEOPLE for people."""
    people = classes == PEOPLE
    centre, scale = found[people].mean(axis=0), found.std(axis=0) + 1e-6
    x = np.clip((found - centre) / scale, -8.0, 8.0).astype(np.float64)
    weight = np.where(people, PEOPLE_COUNT, 1).astype(np.float64)
    within = np.zeros((STATISTICS, STATISTICS))
    between = np.zeros_like(within)
    mean = (x * weight[:, None]).sum(axis=0) / weight.sum()
    for name in sorted(set(classes)):
        rows, count = x[classes == name], weight[classes == name]
        middle = rows.mean(axis=0)
        within += (rows - middle).T @ (rows - middle) * count[0]
        between += np.outer(middle - mean, middle - mean) * count.sum()
    within /= weight.sum()
    between /= weight.sum()
    within += SHRINKAGE * np.trace(within) / STATISTICS * np.eye(STATISTICS)
    lower = np.linalg.cholesky(within)
    turned = np.linalg.solve(lower, np.linalg.solve(lower, between).T)
    _, vectors = np.linalg.eigh((turned + turned.T) / 2)
    directions = np.linalg.solve(lower.T, vectors[:, ::-1][:, :VALUES])
    directions /= np.abs(directions).max()
    return Printer(
        VERSION, centre.astype(np.float32), scale.astype(np.float32), directions.astype(np.float16)
    )


def likenesses(printer, found, who):
    """Cosines of (attempts with the mean of three others of their system, people with those means)."""
    rows = np.array([np.frombuffer(printer(one), np.int8) for one in found], np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    attack = np.array([is_attack for _, is_attack in who])
    names = np.array([name for name, _ in who])
    same, people = [], []
    for name in sorted(set(names[attack])):
        mine = dice(name).permutation(np.flatnonzero(attack & (names == name)))
        if len(mine) < 6:
            continue
        centre = rows[mine[:3]].mean(axis=0)
        centre /= np.linalg.norm(centre)
        same.append(rows[mine[3:]] @ centre)
        people.append(rows[~attack] @ centre)
    return np.concatenate(same), np.concatenate(people)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=450, help="recordings of people, at most")
    given = parser.parse_args()
    console = Console()
    listed = chosen(read_manifest(given.manifest, given.root), fitted=True)
    spoofs = [r for r in listed if r.label == "spoof"]
    people = [r for r in listed if r.label != "spoof"]
    people = [people[n] for n in sorted(dice("people").permutation(len(people))[: given.people])]
    heard = [*listen([*spoofs, *people], given.root), *made(fitted=True)]
    found, who = measured(heard)
    classes = np.array([name if attack else PEOPLE for name, attack in who])
    names = [name for name, _ in who]
    fold = np.array([int(dice(f"fold {name}").integers(FOLDS)) for name in names])
    same, false = [], []
    for number in range(FOLDS):
        out = fold == number
        printer = fit(found[~out], classes[~out])
        mine, theirs = likenesses(printer, found[out], [who[n] for n in np.flatnonzero(out)])
        same.append(mine)
        false.append(theirs)
    same, false = np.concatenate(same), np.concatenate(false)
    needed = float(np.quantile(false, 1.0 - FALSE_SHARE))
    console.print(
        f"{len(found)} renderings, {len(set(classes)) - 1} systems, people {int((classes == PEOPLE).sum())}"
    )
    console.print(
        f"likeness {needed:.3f} passes {FALSE_SHARE:.1%} of people left out and "
        f"{np.mean(same > needed):.1%} of attacks of systems left out"
    )
    given.out.write_bytes(fit(found, classes).to_bytes())
    console.print(f"{given.out}: {given.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
