"""Attempts through the registry's own code, one after another, and what became of each."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from device.liveness.threats.bouts import MOST_TOGETHER
from device.liveness.threats.known import resembles
from sync.events import unit_id
from sync.keys import FileSigner
from sync.registry.campaigns.bouts import Bout
from sync.registry.campaigns.grouping import Limits
from sync.registry.campaigns.intake import Intake
from sync.registry.campaigns.warning import Warner
from sync.registry.database.store import Store
from sync.threats.listed import Threat
from sync.threats.prints import MODEL, Print, mean

FIRST = 3
"""Occurrences of an attack, after which it should be recognised."""
LIST_EVERY = 8
"""Attempts between two lists: units hear of what is new within a minute."""
START_MS = 1_790_000_000_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt as the registry has it, at the door of that number."""

    who: str
    attack: bool
    values: bytes
    door: int
    corpus: str = ""
    otherwise: bytes = b""
    """Of an attack: its print if another loudspeaker had played it."""
    bout: str = ""
    """Which attempts at that door, one after another, it is one of."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with a 95 % interval over whole attacks or people."""

    value: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True)
class Run:
    """How campaigns were recognised at one likeness."""

    likeness: int
    recognised: Share
    """Of attempts after an attack's third anywhere: put into a campaign of three doors and more that is
    mostly this attack's."""
    recognised_bouts: Share
    """The same of attempts after an attack's third bout anywhere."""
    matched: Share
    """Of the same: resembled something on the list that units had by then."""
    flagged: Share
    """Of honest people's attempts: resembled something on the last list, by themselves or, where attempts
    come in bouts, with up to four before, as if all of them had failed."""
    purity: Share
    """Of attempts in campaigns of three doors and more: those of the attack that it is mostly of."""
    campaigns: int
    listed: int


def run_of(
    orders: Sequence[Sequence[Seen]],
    usual: Sequence[Seen],
    coming: Sequence[Seen],
    limits: Limits,
    replicates: int,
) -> tuple[Run, dict[str, tuple[float, float, int]], tuple[Threat, ...]]:
    """How a registry with these limits does; (recognised, warned of, attempts) of each attack; a last list.

    The same attempts in some orders, each through a registry of its own. `usual` is honest traffic that it
    knows, `coming` is held against the last list.
    """
    later: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    later_bouts: dict[str, list[bool]] = defaultdict(list)
    flags: dict[str, list[bool]] = defaultdict(list)
    pure: dict[str, list[bool]] = {}
    listed = 0
    last: tuple[Threat, ...] = ()
    for number, attempts in enumerate(orders):
        groups, matched, last = _through_the_registry(attempts, usual, limits)
        mostly: dict[int, Counter[str]] = defaultdict(Counter)
        at: dict[int, set[int]] = defaultdict(set)
        for attempt, group in zip(attempts, groups, strict=True):
            mostly[group][attempt.who] += 1
            at[group].add(attempt.door)
        times: Counter[str] = Counter()
        bouts: dict[str, set[int]] = defaultdict(set)
        for attempt, group, warned in zip(attempts, groups, matched, strict=True):
            times[attempt.who] += 1
            bouts[attempt.who].add(attempt.door)
            own = mostly[group].most_common(1)[0][0] == attempt.who and len(at[group]) >= FIRST
            if times[attempt.who] > FIRST:
                later[attempt.who].append((own, warned))
            if len(bouts[attempt.who]) > FIRST:
                later_bouts[attempt.who].append(own)
        in_bouts = any(one.bout for one in attempts)
        before: dict[str, list[bytes]] = defaultdict(list)
        for one in coming:
            earlier = before[one.who][1 - MOST_TOGETHER :] if in_bouts else []
            flags[one.who].append(match(one.values, last, earlier))
            before[one.who].append(one.values)
        for group, doors in at.items():
            if len(doors) >= FIRST:
                most, all_of_it = mostly[group].most_common(1)[0][1], mostly[group].total()
                pure[f"{number} {group}"] = [True] * most + [False] * (all_of_it - most)
        listed += len(last)
    count = len(orders)
    run = Run(
        limits.joins,
        share({who: [own for own, _ in some] for who, some in later.items()}, replicates, count),
        share(later_bouts, replicates, count),
        share({who: [warned for _, warned in some] for who, some in later.items()}, replicates, count),
        share(flags, replicates, count),
        share(pure, replicates, count),
        round(len(pure) / count),
        round(listed / count),
    )
    each = {
        who: (float(np.mean([o for o, _ in some])), float(np.mean([m for _, m in some])), len(some) // count)
        for who, some in sorted(later.items())
    }
    return run, each, last


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
            bouts: dict[str, Bout] = {}
            before: dict[str, list[bytes]] = defaultdict(list)
            matched = []
            threats: tuple[Threat, ...] = ()
            with store.transaction() as db:
                for number, attempt in enumerate(attempts):
                    clock[0] += MINUTE_MS
                    name = attempt.bout or str(number)
                    matched.append(match(attempt.values, threats, before[name]))
                    before[name].append(attempt.values)
                    bout = bouts.get(name) or Bout(unit_id(f"door/u-{attempt.door}"), MODEL)
                    found = Print(MODEL, attempt.values)
                    bouts[name], _ = intake.place(db, bout, found, begins=True)
                    if number % LIST_EVERY == LIST_EVERY - 1:
                        threats = warner.wanted(db, clock[0])
                groups = [bouts[a.bout or str(n)].campaign or 0 for n, a in enumerate(attempts)]
                return groups, matched, warner.wanted(db, clock[0])
        finally:
            store.close()


def match(values: bytes, threats: Sequence[Threat], before: Sequence[bytes] = ()) -> bool:
    """Whether a unit with that list takes an attempt for a known attack (`KnownAttacks.match`)."""
    together = mean([*before, values]) if before else b""
    return any(1000 * resembles(threat, values, together) >= threat.likeness for threat in threats)


def share(by_name: dict[str, list[bool]], replicates: int, orders: int = 1) -> Share:
    """The share of True, resampled by name; where there is none, or all are, by the rule of three. What was
    counted in several orders is one thing."""
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
        round(total / orders),
    )
