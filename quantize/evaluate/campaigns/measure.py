"""Seeded campaigns over many doors, with prints of real attacks and people, by the registry's own code."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric import ec

from device.models.spoof.prints import Printer, seen, shipped
from quantize.errors import QuantizeError
from quantize.evaluate.campaigns.sources import MADE_BY, Said, chosen, dice, listen, made
from quantize.evaluate.door.rooms import ROOMS, response, through
from quantize.evaluate.recordings.manifest import Recording
from quantize.playback import microphone, pink, play, random_playback, rms
from sync.events import unit_id
from sync.keys import FileSigner
from sync.registry.campaigns.grouping import Limits
from sync.registry.campaigns.intake import Intake
from sync.registry.campaigns.warning import Warner
from sync.registry.database.store import Store
from sync.threats.listed import Threat
from sync.threats.prints import MODEL, Print, likeness

FIRST = 3
"""Occurrences of an attack, after which it should be recognised."""
MOST_EACH = 24
DOORS = 1000
LIST_EVERY = 8
"""Attempts between two lists: units hear of what is new within a minute."""
CURVE = (500, 600, 650, 700)
START_MS = 1_790_000_000_000
MINUTE_MS = 60_000
GOALS = {"recognised": 0.99, "flagged": 0.001}

Bar = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt, as the registry has it. `door` is where it was."""

    who: str
    attack: bool
    values: bytes
    door: int
    corpus: str = ""
    otherwise: bytes = b""
    """Of an attack: the print if another loudspeaker had played it."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with a 95 % interval over whole attacks or people."""

    value: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of the campaigns with one likeness."""

    likeness: int
    recognised: Share
    """Of attempts after an attack's third anywhere: put into a campaign that is mostly this attack's."""
    matched: Share
    """Of the same: resembled something on the list that units had by then."""
    flagged: Share
    """Of honest people's attempts: resembled something on the last list."""
    purity: Share
    """Of attempts in campaigns of three and more: those of the attack that the campaign is mostly of."""
    campaigns: int
    listed: int


@dataclass(frozen=True, slots=True)
class CampaignsResult:
    """All runs, and of the one that ships each attack by itself."""

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
    by_kind: dict[str, tuple[float, float, int]]
    by_attack: dict[str, tuple[float, float, int]]
    """(recognised, matched, attempts) of each."""
    same_person: float
    """EER of telling from prints alone whether two attempts are one person's: 0.5 is chance."""
    same_person_corpus: float
    """The same among people of one corpus, whose microphones and rooms tell nothing."""


def heard(said: Said, door: int, player: str = "") -> npt.NDArray[np.float32]:
    """At a door, with its own microphone: a person in its room; an attack through a loudspeaker as well.

    That is the one of the attack's owner, or another `player`.
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
    if not any(one.attack for one in found) or all(one.attack for one in found):
        raise QuantizeError("campaigns need attacks and people that nothing was fitted on")
    return found


def measure(found: Sequence[Seen], doors: int, bar: Bar, replicates: int = 300) -> CampaignsResult:
    """All figures. Half of the people are the traffic that units know, the others are those who come."""
    people = sorted({one.who for one in found if not one.attack})
    known = set(dice("known people").permutation(people)[: len(people) // 2].tolist())
    usual = [one for one in found if not one.attack and one.who in known]
    coming = [one for one in found if not one.attack and one.who not in known]
    attempts = [one for one in found if one.attack]
    order = dice("order").permutation(len(attempts))
    attempts = [attempts[n] for n in order]
    step = bar("campaigns: likenesses", len(CURVE) + 1)
    runs = []
    for joins, asks in ((Limits().joins, Limits().asks), *((one, one) for one in CURVE)):
        runs.append(
            _run(attempts, usual, coming, replace(Limits(), joins=joins, asks=max(joins, asks)), replicates)
        )
        step()
    shipped_run, by_attack = runs[0]
    varied = [replace(one, values=one.otherwise) for one in attempts]
    other_players, _ = _run(varied, usual, coming, Limits(), replicates)
    return CampaignsResult(
        MODEL,
        len(by_attack),
        len(attempts),
        len(people) - len(known),
        len(coming),
        doors,
        shipped_run,
        tuple(run for run, _ in runs[1:]),
        other_players,
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


def _run(
    attempts: Sequence[Seen],
    usual: Sequence[Seen],
    coming: Sequence[Seen],
    limits: Limits,
    replicates: int,
) -> tuple[Run, dict[str, tuple[float, float, int]]]:
    groups, matched, last = _through_the_registry(attempts, usual, limits)
    mostly = {
        number: Counter(a.who for a, g in zip(attempts, groups, strict=True) if g == number)
        for number in set(groups)
    }
    times: Counter[str] = Counter()
    later: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for attempt, group, match in zip(attempts, groups, matched, strict=True):
        times[attempt.who] += 1
        if times[attempt.who] > FIRST:
            counts = mostly[group]
            own = counts.most_common(1)[0][0] == attempt.who and counts.total() >= FIRST
            later[attempt.who].append((own, match))
    flags: dict[str, list[bool]] = defaultdict(list)
    for one in coming:
        flags[one.who].append(_match(one.values, last))
    large = [counts for counts in mostly.values() if counts.total() >= FIRST]
    pure = {str(n): [True] * c.most_common(1)[0][1] + [False] * (c.total() - c.most_common(1)[0][1])
            for n, c in enumerate(large)}  # fmt: skip
    run = Run(
        limits.joins,
        _share({who: [own for own, _ in some] for who, some in later.items()}, replicates),
        _share({who: [match for _, match in some] for who, some in later.items()}, replicates),
        _share(flags, replicates),
        _share(pure, replicates),
        len(large),
        len(last),
    )
    each = {
        who: (float(np.mean([o for o, _ in some])), float(np.mean([m for _, m in some])), len(some))
        for who, some in sorted(later.items())
    }
    return run, each


def _through_the_registry(
    attempts: Sequence[Seen], usual: Sequence[Seen], limits: Limits
) -> tuple[list[int], list[bool], tuple[Threat, ...]]:
    """(campaign of each attempt, whether its unit was warned of it, the last list)."""
    key = ec.generate_private_key(ec.SECP256R1())
    clock = [START_MS]
    with tempfile.TemporaryDirectory(prefix="ostiary-campaigns-") as folder:
        store = Store.open(f"sqlite:///{folder}/registry.db")
        try:
            intake = Intake(store, key, lambda: clock[0], limits)
            warner = Warner(store, FileSigner.generate(), key.public_key(), lambda: clock[0], limits)
            with store.transaction() as db:
                for one in usual:
                    intake.keep_honest(db, unit_id(f"door/u-{one.door}"), Print(MODEL, one.values))
            groups, matched = [], []
            threats: tuple[Threat, ...] = ()
            with store.transaction() as db:
                for number, attempt in enumerate(attempts):
                    clock[0] += MINUTE_MS
                    matched.append(_match(attempt.values, threats))
                    found = Print(MODEL, attempt.values)
                    group, _ = intake.place(db, unit_id(f"door/u-{attempt.door}"), found, begins=True)
                    groups.append(group or 0)
                    if number % LIST_EVERY == LIST_EVERY - 1:
                        threats = warner.wanted(db, clock[0])
                return groups, matched, warner.wanted(db, clock[0])
        finally:
            store.close()


def _match(values: bytes, threats: Sequence[Threat]) -> bool:
    return any(1000 * likeness(values, threat.values) >= threat.likeness for threat in threats)


def _share(by_name: dict[str, list[bool]], replicates: int) -> Share:
    """The share of True, resampled by name; where there is none, or all are, by the rule of three."""
    hits = np.array([sum(some) for some in by_name.values()], float)
    counts = np.array([len(some) for some in by_name.values()], float)
    total = int(counts.sum())
    if not total:
        return Share(float("nan"), 0.0, 1.0, 0)
    value = float(hits.sum() / total)
    chance = np.random.default_rng(1)
    drawn = chance.integers(len(counts), size=(max(1, replicates), len(counts)))
    low, high = np.percentile(hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    beyond = min(1.0, 3.0 / len(counts))
    return Share(
        value,
        1.0 - beyond if value == 1.0 else float(low),
        beyond if value == 0.0 else float(high),
        total,
    )


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
