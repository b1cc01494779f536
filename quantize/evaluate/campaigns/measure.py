"""Seeded campaigns over many doors, with prints of real attacks and people, by the registry's own code."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.models.spoof.prints import Printer, seen, shipped
from quantize.errors import QuantizeError
from quantize.evaluate.campaigns.runs import Run, Seen, Share, match, run_of, share
from quantize.evaluate.campaigns.sources import MADE_BY, Said, chosen, dice, listen, made
from quantize.evaluate.door.rooms import ROOMS, response, through
from quantize.evaluate.recordings.manifest import Recording
from quantize.playback import microphone, pink, play, random_playback, rms
from sync.registry.campaigns.grouping import Limits
from sync.threats.listed import Threat
from sync.threats.prints import MODEL, likeness

MOST_EACH = 24
BOUT = 3
"""Attempts of one attack at one door within minutes, where they come in bouts."""
ORDERS = 5
"""Which attempt comes first decides what begins a campaign; the curve is of one order."""
DOORS = 1000
CURVE = (500, 600, 650, 700)
GOALS = {"recognised": 0.99, "flagged": 0.001}

Bar = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class CampaignsResult:
    """All runs, and each attack by itself in the run with the limits that ship."""

    version: str
    attacks: int
    attempts: int
    people: int
    honest: int
    doors: int
    shipped: Run
    curve: tuple[Run, ...]
    other_players: Run
    """Where an attacker plays every attempt with something else."""
    apart: Run
    """Three attempts of an attack at each door, each by itself."""
    together: Run
    """The same, three at one door together."""
    other_players_together: Run
    after_attack: Share
    """Of honest people's attempts just after an attack's bout for their badge: resembled something."""
    by_kind: dict[str, tuple[float, float, int]]
    by_attack: dict[str, tuple[float, float, int]]
    """(recognised, matched, attempts) of each."""
    same_person: float
    """EER of telling from prints alone whether two attempts are one person's: 0.5 is chance."""
    same_person_corpus: float
    """The same among people of one corpus, whose microphones and rooms tell nothing."""


def heard(said: Said, door: int, player: str = "") -> npt.NDArray[np.float32]:
    """`said` at a door with its own room and microphone; an attack comes through a loudspeaker as well.

    The loudspeaker is that of the attack's owner, or of `player` where one is named.
    """
    chance = said.dice(f"door {door}")
    wave = said.wave
    if said.attack:
        wave = play(random_playback(dice(player or f"phone of {said.who}")).loudspeaker, wave)
    wave = through(wave, response(door % ROOMS, False))
    noise = pink(len(wave), chance) * rms(wave) * 10.0 ** (-chance.uniform(18.0, 35.0) / 20.0)
    return microphone((wave + noise).astype(np.float32), dice(f"microphone {door}"))


def prints(
    recordings: Sequence[Recording], root: Path, doors: int, bar: Bar, printer: Printer | None = None
) -> list[Seen]:
    """Every judged recording once, at a door of its own choice; a person stays at one door."""
    listed = chosen(recordings, fitted=False)
    printer = printer or shipped()
    step = bar("campaigns: prints", len(listed))
    found: list[Seen] = []
    counts: Counter[str] = Counter()
    for said in (*listen(listed, root), *made(fitted=False)):
        step()
        if said.attack and counts[said.who] >= MOST_EACH:
            continue
        counts[said.who] += 1
        door = int(dice(f"door {said.name if said.attack else said.who}").integers(doors))
        values = printer(seen(heard(said, door)))
        otherwise = printer(seen(heard(said, door, f"player of {said.name}"))) if said.attack else b""
        corpus = said.name.split("/", 1)[0]
        found.append(Seen(said.who, said.attack, values, door, corpus, otherwise))
        if said.attack:
            bout = f"{said.who} {(counts[said.who] - 1) // BOUT}"
            door = int(dice(f"bout {bout}").integers(doors))
            values = printer(seen(heard(said, door)))
            otherwise = printer(seen(heard(said, door, f"player of {said.name}")))
            found.append(Seen(said.who, True, values, door, corpus, otherwise, bout))
    if not any(one.attack for one in found) or all(one.attack for one in found):
        raise QuantizeError("campaigns need attacks and people that nothing was fitted on")
    return found


def measure(found: Sequence[Seen], doors: int, bar: Bar, replicates: int = 300) -> CampaignsResult:
    """All figures. Half of the people are traffic that the registry knows; the others come afterwards."""
    people = sorted({one.who for one in found if not one.attack})
    known = set(dice("known people").permutation(people)[: len(people) // 2].tolist())
    usual = [one for one in found if not one.attack and one.who in known]
    coming = [one for one in found if not one.attack and one.who not in known]
    attempts = [one for one in found if one.attack and not one.bout]
    orders = [_ordered(attempts, number) for number in range(ORDERS)]
    bouts = [_ordered([one for one in found if one.bout], number) for number in range(ORDERS)]
    step = bar("campaigns: likenesses", len(CURVE) + 1)
    limits = Limits()
    shipped_run, by_attack, _ = run_of(orders, usual, coming, limits, replicates)
    runs = []
    for one in CURVE:
        runs.append(run_of(orders[:1], usual, coming, replace(limits, joins=one, asks=one), replicates)[0])
        step()
    other_players = run_of(_otherwise(orders), usual, coming, limits, replicates)[0]
    apart = [[replace(one, bout="") for one in order] for order in bouts]
    together, _, last = run_of(bouts, usual, coming, limits, replicates)
    step()
    return CampaignsResult(
        MODEL,
        len(by_attack),
        len(attempts),
        len(people) - len(known),
        len(coming),
        doors,
        shipped_run,
        tuple(runs),
        other_players,
        run_of(apart, usual, coming, limits, replicates)[0],
        together,
        run_of(_otherwise(bouts), usual, coming, limits, replicates)[0],
        _after_attack(bouts[0], coming, last, replicates),
        _by_kind(by_attack),
        by_attack,
        same_person(coming),
        same_person(coming, within=True),
    )


def summary(result: CampaignsResult) -> dict[str, Any]:
    """The figures in use, by plain names."""
    return {
        "in_use": asdict(result.shipped),
        "other_players": asdict(result.other_players),
        "three_at_a_door_apart": asdict(result.apart),
        "three_at_a_door_together": asdict(result.together),
        "three_at_a_door_together_other_players": asdict(result.other_players_together),
        "honest_after_an_attack": asdict(result.after_attack),
        "by_kind": result.by_kind,
        "same_person_eer": result.same_person,
        "same_person_eer_in_one_corpus": result.same_person_corpus,
    }


def _by_kind(by_attack: dict[str, tuple[float, float, int]]) -> dict[str, tuple[float, float, int]]:
    """Attacks that speak with one voice, and those of pages, which speak with many."""
    kinds: dict[str, tuple[float, float, int]] = {}
    for kind, one_voice in (("one voice", True), ("many voices", False)):
        some = [each for name, each in by_attack.items() if name.startswith(MADE_BY) == one_voice]
        count = sum(each[2] for each in some)
        if count:
            own, match = (sum(each[at] * each[2] for each in some) / count for at in (0, 1))
            kinds[kind] = (float(own), float(match), count)
    return kinds


def _ordered(attempts: Sequence[Seen], number: int) -> list[Seen]:
    """In one of many orders; those of one bout one after another."""
    by: dict[str, list[Seen]] = defaultdict(list)
    for at, one in enumerate(attempts):
        by[one.bout or str(at)].append(one)
    bouts = list(by.values())
    return [one for n in dice(f"order {number}").permutation(len(bouts)) for one in bouts[n]]


def _otherwise(orders: Sequence[Sequence[Seen]]) -> list[list[Seen]]:
    return [[replace(one, values=one.otherwise) for one in order] for order in orders]


def _after_attack(
    bouts: Sequence[Seen], coming: Sequence[Seen], last: Sequence[Threat], replicates: int
) -> Share:
    by: dict[str, list[bytes]] = defaultdict(list)
    for attempt in bouts:
        by[attempt.bout].append(attempt.values)
    names = sorted(by)
    flags: dict[str, list[bool]] = defaultdict(list)
    for number, one in enumerate(coming):
        flags[one.who].append(match(one.values, last, by[names[number % len(names)]]))
    return share(flags, replicates)


def same_person(coming: Sequence[Seen], *, within: bool = False) -> float:
    """EER of telling from prints whether two attempts are one person's; `within`: of one corpus alone."""
    same: list[float] = []
    other: list[float] = []
    for n, one in enumerate(coming):
        for two in coming[n + 1 :]:
            if within and one.corpus != two.corpus:
                continue
            (same if one.who == two.who else other).append(likeness(one.values, two.values))
    if not same or not other:
        return float("nan")
    yes, no = np.sort(same), np.sort(other)
    cuts = np.quantile(np.concatenate([yes, no]), np.linspace(0, 1, 400))
    missed = np.searchsorted(yes, cuts) / len(yes)
    false = 1.0 - np.searchsorted(no, cuts) / len(no)
    return float(np.min(np.maximum(missed, false)))
