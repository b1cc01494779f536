"""Fits the map from what the detector sees to prints: attackers apart, all people as one.

    python -m research.fits.prints --manifest data/manifest.tsv --root data \\
        --out device/models/spoof/prints.npz

Linear discriminants (Fisher). A class is a system played by anything, or a system with one of its owners'
loudspeakers; everybody is one class, people counted fourfold. What tells people from each other counts as
spread within a class a second time (SAME_PERSON), so that a print says little of who spoke. The likeness
that a match needs is chosen on the fitted side alone, with whole systems and people left out in turn;
`ostiary evaluate --only campaigns` judges by others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from device.models.spoof.prints import LIMIT, SEEN, VALUES, Printer, seen
from quantize.evaluate.campaigns.sources import Said, Wave, chosen, dice, listen, made
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.playback import Room, pink, play, random_playback, reverberate, rms

VERSION = "prints-2"
PEOPLE = ""
PEOPLE_COUNT = 4
SHRINKAGE = 0.6
SAME_PERSON = 1.0
"""How often the spread between people's means is counted as spread within a class."""
FOLDS = 4
FALSE_SHARES = (1e-3, 1e-4)
OWNERS, LOUDSPEAKERS = 2, 150
"""Of each system so many have a loudspeaker each, of so many."""
ANY, OWN = range(2)
"""Renderings: through any loudspeaker, through that of an owner."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """One recording as a door heard it."""

    who: str
    attack: bool
    corpus: str
    name: str
    owner: str
    """Empty: through any loudspeaker, or a person."""

    @property
    def label(self) -> str:
        """Its class."""
        return f"{self.who}|{self.owner}" if self.owner else self.who if self.attack else PEOPLE


def rendered(said: Said, number: int) -> tuple[Wave, str]:
    """As a door may hear it, and whose loudspeaker played it: people in a room, attacks played there."""
    chance = said.dice(f"light fit {number}")
    wave, owner = said.wave, ""
    if said.attack:
        if number == OWN:
            owner = str(dice(f"own {said.who} {said.dice('o').integers(OWNERS)}").integers(LOUDSPEAKERS))
        player = random_playback(dice(f"phone {owner}") if owner else chance)
        wave = play(player.loudspeaker, wave)
    wave = reverberate(wave, Room(float(chance.uniform(0.15, 0.5)), float(chance.uniform(3.0, 12.0))), chance)
    noise = pink(len(wave), chance) * rms(wave) * 10.0 ** (-chance.uniform(18.0, 35.0) / 20.0)
    return (wave + noise).astype(np.float32), owner


def measured(people_and_attacks: Iterable[Said]) -> tuple[npt.NDArray[np.float32], list[Rendering]]:
    """What is seen of each rendering, (n, SEEN), and what it is."""
    found, what = [], []
    for said in track(people_and_attacks, description="listening"):
        for number in (ANY, OWN):
            wave, owner = rendered(said, number)
            found.append(seen(wave))
            what.append(Rendering(said.who, said.attack, said.name.split("/")[0], said.name, owner))
    return np.array(found, np.float32), what


def fit(found: npt.NDArray[np.float32], what: Sequence[Rendering]) -> Printer:
    """The discriminants of these renderings, (n, SEEN)."""
    classes = np.array([one.label for one in what])
    people = classes == PEOPLE
    centre, scale = found[people].mean(axis=0), found.std(axis=0) + 1e-6
    x = np.clip((found - centre) / scale, -LIMIT, LIMIT).astype(np.float64)
    weight = np.where(people, PEOPLE_COUNT, 1).astype(np.float64)
    within = np.zeros((SEEN, SEEN))
    between = np.zeros_like(within)
    mean = (x * weight[:, None]).sum(axis=0) / weight.sum()
    for name in sorted(set(classes)):
        rows, count = x[classes == name], weight[classes == name]
        middle = rows.mean(axis=0)
        within += (rows - middle).T @ (rows - middle) * count[0]
        between += np.outer(middle - mean, middle - mean) * count.sum()
    within = within / weight.sum() + SAME_PERSON * _of_persons(x[people], np.array(what)[people])
    between /= weight.sum()
    values, vectors = np.linalg.eigh(within)
    within = (vectors * np.maximum(values, 0.0)) @ vectors.T + SHRINKAGE * np.eye(SEEN)
    lower = np.linalg.cholesky(within)
    turned = np.linalg.solve(lower, np.linalg.solve(lower, between).T)
    _, vectors = np.linalg.eigh((turned + turned.T) / 2)
    directions = np.linalg.solve(lower.T, vectors[:, ::-1][:, :VALUES])
    directions /= np.abs(directions).max()
    return Printer(
        VERSION, centre.astype(np.float32), scale.astype(np.float32), directions.astype(np.float16)
    )


def _of_persons(x: npt.NDArray[np.float64], what: Sequence[Rendering]) -> npt.NDArray[np.float64]:
    """What two renderings of one person have in common: the mean of their products, each with the others."""
    total, counted = np.zeros((SEEN, SEEN)), 0
    names = np.array([one.who for one in what])
    for name in sorted(set(names)):
        rows = x[names == name]
        if len(rows) > 1:
            whole = rows.sum(axis=0)
            total += (np.outer(whole, whole) - rows.T @ rows) / (len(rows) - 1)
            counted += len(rows)
    return total / max(1, counted)


def likenesses(
    printer: Printer, found: npt.NDArray[np.float32], what: Sequence[Rendering], number: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosines of (attempts with the mean of three others of their class, people with those means)."""
    rows = _directions(printer, found)
    labels = np.array(
        [one.label if one.attack and bool(one.owner) == (number == OWN) else "" for one in what]
    )
    people = np.array([not one.attack for one in what])
    same, theirs = [], []
    for name in sorted(set(labels) - {""}):
        mine = dice(name).permutation(np.flatnonzero(labels == name))
        if len(mine) < 6:
            continue
        centre = rows[mine[:3]].mean(axis=0)
        centre /= np.linalg.norm(centre)
        same.append(rows[mine[3:]] @ centre)
        theirs.append(rows[people] @ centre)
    if not same:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(same), np.concatenate(theirs)


def persons(
    printer: Printer, found: npt.NDArray[np.float32], what: Sequence[Rendering]
) -> tuple[list[float], list[float]]:
    """Cosines of two recordings (of one person, of two people of one corpus)."""
    rows = _directions(printer, found)
    people = [n for n, one in enumerate(what) if not one.attack]
    same, other = [], []
    for at, n in enumerate(people):
        for m in people[at + 1 :]:
            if what[n].corpus == what[m].corpus and what[n].name != what[m].name:
                (same if what[n].who == what[m].who else other).append(float(rows[n] @ rows[m]))
    return same, other


def _directions(printer: Printer, found: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    rows = np.array([np.frombuffer(printer(one), np.int8) for one in found], np.float64)
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


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
    found, what = measured(heard)
    fold = np.array([int(dice(f"fold {one.who}").integers(FOLDS)) for one in what])
    cosines: dict[int, list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]] = {ANY: [], OWN: []}
    same: list[float] = []
    other: list[float] = []
    for number in range(FOLDS):
        left = np.flatnonzero(fold == number)
        kept = np.flatnonzero(fold != number)
        printer = fit(found[kept], [what[n] for n in kept])
        out = [what[n] for n in left]
        for player, pairs in cosines.items():
            pairs.append(likenesses(printer, found[left], out, player))
        one, two = persons(printer, found[left], out)
        same += one
        other += two
    console.print(
        f"{len(found)} renderings, {len({one.label for one in what}) - 1} classes of attacks, "
        f"{sum(not one.attack for one in what)} of people"
    )
    for player, told in ((OWN, "by their owner's loudspeaker"), (ANY, "by any loudspeaker")):
        mine = np.concatenate([pair[0] for pair in cosines[player]])
        theirs = np.concatenate([pair[1] for pair in cosines[player]])
        for share in FALSE_SHARES:
            needed = float(np.quantile(theirs, 1.0 - share))
            console.print(
                f"{told}: likeness {needed:.3f} passes {share:.2%} of people left out and "
                f"{np.mean(mine > needed):.1%} of {len(mine)} attacks of systems left out"
            )
    yes, no = np.array(same), np.array(other)
    cuts = np.quantile(np.concatenate([yes, no]), np.linspace(0.0, 1.0, 400))
    rates = [max(float((yes < cut).mean()), float((no >= cut).mean())) for cut in cuts]
    console.print(f"one person or two of one corpus, left out: EER {min(rates):.1%}")
    given.out.write_bytes(fit(found, what).to_bytes())
    console.print(f"{given.out}: {given.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
