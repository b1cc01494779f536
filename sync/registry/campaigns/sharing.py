"""Signatures of campaigns for other deployments, under a privacy budget that is stated and kept.

The Gaussian mechanism (Bun and Steinke 2016, proposition 1.3) on the mean of a campaign's prints, each of
length one: one print more, less or another moves the mean of n by at most 2/n. Noise of standard deviation
2/n / (sqrt(2) (sqrt(ln(1/delta) + epsilon) - sqrt(ln(1/delta)))) goes onto each value. n itself gets Laplace
noise, a quarter of the budget, and then counts as so much less that it is too high once in a million.
What was spent on a campaign is on record and adds up (basic composition).

What it hides is one attempt: whether any given person was ever refused and counted in it. It does not hide
the attacker, who is what is shared.
"""

from __future__ import annotations

import json
import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, SyncError
from sync.events import MAX_TIME_MS, Signer
from sync.registry.campaigns.grouping import LONG
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.campaign_tables import campaigns, reports, shares
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.threats.prints import MODEL, VALUES, as_values

SHARED_TYPE = "application/ostiary-shared-campaigns+cbor"
DELTA = 1e-6
MOST_EPSILON = 4.0
"""The budget of one campaign in all; once it is spent, nothing of it is shared."""
COUNT_SHARE = 0.25
"""The share of epsilon for learning the number of attempts; spent also where nothing is shared."""
LENGTH = 0.85
"""The length of the mean of a campaign's prints, about: they are not all alike."""
LEAST_LIKENESS = 0.9
"""The expected likeness of what is shared to what it was; below it, noise is all that would be told."""
MOST_SHARED = 40
_DICE = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Spent:
    """What sharing one campaign cost, and how much noise it got."""

    campaign: int
    epsilon: float
    delta: float
    noise: float
    """Standard deviation on each value of a print of length one."""


def noise_of(attempts: float, epsilon: float, delta: float = DELTA) -> float:
    """Standard deviation of the noise on each value of the mean of so many prints."""
    likely = math.log(1.0 / delta)
    return 2.0 / attempts / (math.sqrt(2.0) * (math.sqrt(likely + epsilon) - math.sqrt(likely)))


def surely(seen: float, epsilon: float, delta: float = DELTA) -> float:
    """A number that is at most the true one but once in 1 / delta, of that number with its Laplace noise."""
    return seen - math.log(1.0 / (2.0 * delta)) / epsilon


def expected_likeness(noise: float) -> float:
    """Between the mean of a campaign's prints and the same with noise on each of its values."""
    return LENGTH / math.sqrt(LENGTH * LENGTH + VALUES * noise * noise)


def share(
    store: Store,
    signer: Signer,
    epsilon: float,
    account: str,
    now_ms: int,
    deployment: str,
    dice: random.Random = _DICE,
) -> tuple[bytes, list[Spent]]:
    """A signed file of what may be told of known campaigns, and what it cost. Raises SyncError.

    A campaign is left out when its budget is spent, or when it has so few attempts that noise would be all.
    """
    if not 0.1 <= epsilon <= MOST_EPSILON:
        raise SyncError(f"epsilon is from 0.1 to {MOST_EPSILON:g}; less tells others less")
    spent: list[Spent] = []
    told: list[bytes] = []
    with store.transaction() as db:
        take_turn(db, Turn.CAMPAIGNS)
        before = sa.select(shares.c.campaign, sa.func.sum(shares.c.epsilon)).group_by(shares.c.campaign)
        used = {row[0]: float(row[1]) for row in db.execute(before)}
        query = sa.select(campaigns.c.id).where(
            campaigns.c.state == "known", campaigns.c.model == MODEL, campaigns.c.origin == ""
        )
        for number in db.execute(query.order_by(campaigns.c.last_ms.desc())).scalars():
            if len(told) == MOST_SHARED or used.get(number, 0.0) + epsilon > MOST_EPSILON + 1e-9:
                continue
            said = sa.select(reports.c.sums, reports.c.counted).where(reports.c.campaign == number)
            mean, counted = _mean([(json.loads(row.sums), row.counted) for row in db.execute(said)])
            cost = COUNT_SHARE * epsilon
            least = surely(counted + _laplace(1.0 / cost, dice), cost)
            noise = noise_of(least, epsilon - cost) if least >= 1 else math.inf
            if expected_likeness(noise) < LEAST_LIKENESS:
                _spend(db, number, cost, DELTA, account, now_ms)
                continue
            told.append(as_values([value + dice.gauss(0.0, noise) for value in mean]))
            _spend(db, number, epsilon, 2 * DELTA, account, now_ms)
            spent.append(Spent(number, epsilon, 2 * DELTA, noise))
        on_record(db, account, "share campaigns", len(told), now_ms, subject=f"epsilon {epsilon:g}")
    payload = dump_fields(1, deployment, MODEL, now_ms, b"".join(told))
    return cose.sign1(payload, signer, SHARED_TYPE), spent


@dataclass(frozen=True, slots=True)
class Shared:
    """What another deployment tells."""

    deployment: str
    made_ms: int
    prints: tuple[bytes, ...]


def open_shared(message: bytes, key: ec.EllipticCurvePublicKey) -> Shared:
    """What the holder of `key` shares. Raises MalformedError, ProofError; SyncError for another model's."""
    form, deployment, model, made_ms, values = fields(
        cose.open1(message, key, SHARED_TYPE), "issib", cose.MAX_SIGN1_BYTES
    )
    if (
        form != 1
        or len(values) % VALUES
        or len(values) > MOST_SHARED * VALUES
        or not 0 < len(deployment) < 65
        or not deployment.isprintable()
        or not 0 <= made_ms <= MAX_TIME_MS
    ):
        raise MalformedError("a file of shared campaigns of an unknown form")
    if model != MODEL:
        raise SyncError(
            f"{deployment} shares prints of {model}, and ours are {MODEL}: they cannot be compared"
        )
    prints = (values[at : at + VALUES] for at in range(0, len(values), VALUES))
    return Shared(deployment, made_ms, tuple(prints))


def take_shared(
    store: Store, message: bytes, key: ec.EllipticCurvePublicKey, account: str, now_ms: int
) -> int:
    """Keep another deployment's campaigns; returns how many.

    They count as no report of ours: units are warned of one once units of ours have seen it too. Raises
    MalformedError, ProofError, SyncError.
    """
    shared = open_shared(message, key)
    with store.transaction() as db:
        take_turn(db, Turn.CAMPAIGNS)
        there = sa.select(campaigns.c.id).where(
            campaigns.c.origin == shared.deployment, campaigns.c.times == 0
        )
        db.execute(sa.delete(campaigns).where(campaigns.c.id.in_(list(db.execute(there).scalars()))))
        for one in shared.prints:
            row = {"model": MODEL, "centre": one, "times": 0, "reporters": 0, "first_ms": shared.made_ms}
            row |= {"last_ms": now_ms, "likeness": 1000, "state": "forming", "origin": shared.deployment}
            db.execute(sa.insert(campaigns).values(**row))
        subject = f"of {shared.deployment}"
        on_record(db, account, "take campaigns", len(shared.prints), now_ms, subject)
    return len(shared.prints)


def _mean(said: Sequence[tuple[list[int], int]]) -> tuple[list[float], int]:
    """The mean of prints of length one, and of how many."""
    counted = sum(times for _, times in said)
    total = [sum(values) for values in zip(*(sums for sums, _ in said), strict=True)] or [0] * VALUES
    return [value / LONG / max(1, counted) for value in total], counted


def _spend(db: sa.Connection, campaign: int, epsilon: float, delta: float, account: str, now_ms: int) -> None:
    row = {"campaign": campaign, "epsilon": epsilon, "delta": delta, "account": account, "shared_ms": now_ms}
    db.execute(sa.insert(shares).values(**row))


def _laplace(scale: float, dice: random.Random) -> float:
    return dice.choice((-1.0, 1.0)) * dice.expovariate(1.0 / scale)
