"""What would make prints tell one attack from another.

    python -m research.trials.prints --manifest M.tsv --root DIR [--keep FILE]

The judged side of `ostiary evaluate --only campaigns`, each attempt once, grouping taken as known: the first
three of an attack make its centre, and each later attempt is held against the centres of all attacks. Then
the same by the likest of the three and by their mean, with attempts at one door taken together, and with a
map that was fitted on half of these very attempts (an oracle: what a better map on the same features could
give). `--keep` keeps what was seen, no sound.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from device.models.spoof.prints import Printer, seen, shipped
from quantize.evaluate.campaigns.measure import DOORS, MOST_EACH, heard
from quantize.evaluate.campaigns.runs import FIRST
from quantize.evaluate.campaigns.sources import MADE_BY, Said, chosen, dice, listen, made
from quantize.evaluate.recordings.manifest import read_manifest
from research.fits.prints import Rendering, fit

TOGETHER = 3
SHARES = (0.1, 0.03, 0.01, 0.001)
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
_HEARD: dict[tuple[str, int], Floats] = {}
MEAN, LIKEST, AVERAGE = "centre", "the likest of three", "the mean likeness to three"


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What was seen of each attempt (n, SEEN), of its mates at the same door, and with another player."""

    who: npt.NDArray[np.str_]
    attack: npt.NDArray[np.bool_]
    begins: npt.NDArray[np.bool_]
    """Whether it is among the first three of its attack or person."""
    own: Floats
    other: Floats
    mates: Floats
    """(n, TOGETHER - 1, SEEN): other recordings of the same attack or person at that door."""


def listened(manifest: Path, root: Path) -> Heard:
    """Every judged recording at a door, as campaigns are measured."""
    counts: Counter[str] = Counter()
    every: list[Said] = []
    for said in (*listen(chosen(read_manifest(manifest, root), fitted=False), root), *made(fitted=False)):
        if not said.attack or counts[said.who] < MOST_EACH:
            counts[said.who] += 1
            every.append(said)
    of: dict[str, list[Said]] = {}
    for said in every:
        of.setdefault(said.who, []).append(said)
    firsts = {
        one.name for who, theirs in of.items() for one in (
            theirs[n] for n in dice(f"order of {who}").permutation(len(theirs))[:FIRST]
        )
    }  # fmt: skip
    own, other, mates = [], [], []
    for said in track(every, description="listening"):
        door = int(dice(f"door {said.name if said.attack else said.who}").integers(DOORS))
        own.append(_at(said, door))
        other.append(seen(heard(said, door, f"player of {said.name}")) if said.attack else own[-1])
        rest = [one for one in of[said.who] if one is not said and one.name not in firsts] or [said]
        drawn = dice(f"mates {said.name}").permutation(len(rest))[: TOGETHER - 1]
        mates.append([_at(rest[drawn[n % len(drawn)]], door) for n in range(TOGETHER - 1)])
    return Heard(
        np.array([said.who for said in every]),
        np.array([said.attack for said in every]),
        np.array([said.name in firsts for said in every]),
        *(np.array(part, np.float32) for part in (own, other, mates)),
    )


def _at(said: Said, door: int) -> Floats:
    if (said.name, door) not in _HEARD:
        _HEARD[said.name, door] = seen(heard(said, door))
    return _HEARD[said.name, door]


def directions(printer: Printer, rows: Floats) -> Scores:
    """Prints as unit vectors, (n, VALUES)."""
    values = np.array([np.frombuffer(printer(row), np.int8) for row in rows], np.float64)
    unit: Scores = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit


def told(name: str, rows: Scores, later: Scores, found: Heard, how: str = MEAN) -> None:
    """A line of figures. `rows` of attempts that begin make centres; `later` are held against them."""
    begins = found.attack & found.begins
    names = sorted(set(found.who[found.attack]))
    groups = [rows[begins & (found.who == who)] for who in names]
    if how == MEAN:
        scores = np.stack([later @ _unit(group.mean(axis=0)) for group in groups], axis=1)
    else:
        pick = np.max if how == LIKEST else np.mean
        scores = np.stack([pick(later @ group.T, axis=1) for group in groups], axis=1)
    mine = found.attack & ~begins
    which = np.array([names.index(who) for who in found.who[mine]])
    own = scores[mine][np.arange(len(which)), which]
    nearest = scores[mine].argmax(axis=1) == which
    honest = scores[~found.attack].max(axis=1)
    one_voice = np.array([who.startswith(MADE_BY) for who in found.who[mine]])
    cells = []
    for share in SHARES:
        above = own > np.quantile(honest, 1.0 - share)
        cells.append(
            f"{share:.1%}: {above.mean():.1%} ({above[one_voice].mean():.0%} one voice, "
            f"{above[~one_voice].mean():.0%} many)"
        )
    print(f"{name}: {len(which)} later attempts, nearest is own {nearest.mean():.1%}; {'; '.join(cells)}")


def _unit(rows: Scores) -> Scores:
    unit: Scores = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit


def _halves(found: Heard) -> npt.NDArray[np.intp]:
    """0 or 1 for each attempt: of each attack half of its attempts, of people half of the people."""
    half = np.array([int(dice(f"half of {who}").integers(2)) for who in found.who])
    for who in set(found.who[found.attack]):
        mine = dice(f"halves of {who}").permutation(np.flatnonzero(found.who == who))
        half[mine] = np.arange(len(mine)) % 2
    return half


def oracle(name: str, rows: Floats, found: Heard) -> None:
    """The map fitted on one half of the attempts of these very attacks, and judged on the other."""
    half = _halves(found)
    for side in (0, 1):
        taught = half != side
        what = [
            Rendering(str(who), bool(attack), "", f"{who}/{n}", "")
            for n, (who, attack) in enumerate(zip(found.who, found.attack, strict=True))
        ]
        printer = fit(rows[taught], [one for one, mine in zip(what, taught, strict=True) if mine])
        kept = ~found.attack & taught  # people on whom the map was fitted judge nothing
        some = Heard(
            *(part[~kept] for part in (found.who, found.attack, taught, found.own, found.other, found.mates))
        )
        turned = directions(printer, rows[~kept])
        told(f"{name}, half {side + 1}", turned, turned, some)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.keep is not None and given.keep.is_file():
        with np.load(given.keep) as kept:
            found = Heard(*(kept[name] for name in Heard.__slots__))
    else:
        found = listened(given.manifest, given.root)
        if given.keep is not None:
            np.savez(given.keep, **{name: getattr(found, name) for name in Heard.__slots__})
    printer = shipped()
    own, other = directions(printer, found.own), directions(printer, found.other)
    told("the owner's player", own, own, found)
    for how in (LIKEST, AVERAGE):
        told(f"the owner's player, by {how}", own, own, found, how)
    told("another player each time", other, other, found)
    beside = [directions(printer, found.mates[:, n]) for n in range(TOGETHER - 1)]
    for count in range(2, TOGETHER + 1):
        together = _unit(own + sum(beside[: count - 1]))
        told(f"{count} attempts at one door together", own, together, found)
    oracle("ORACLE, the owner's player", found.own, found)
    oracle("ORACLE, another player each time", found.other, found)


if __name__ == "__main__":
    main()
