"""Campaigns in the registry: what units together say counts, what one unit says does not."""

from __future__ import annotations

import json
import math
import random
from collections import Counter

import pytest
import sqlalchemy as sa

from sync.errors import ProofError, SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.orders.commands import open_command
from sync.registry import commands
from sync.registry.campaigns import known, sharing
from sync.registry.campaigns.bouts import Bout
from sync.registry.campaigns.grouping import Limits
from sync.registry.campaigns.warning import LIST_LIFE_MS
from sync.registry.database.campaign_tables import campaigns, honest, prints, reports
from sync.registry.database.store import Store
from sync.threats.listed import ThreatList
from sync.threats.prints import (
    MODEL,
    VALUES,
    Print,
    SealedPrint,
    as_values,
    numbers,
)
from tests.sync.registry.campaigns.site import ATTACKER, PERSON, Site

DAY_MS = 86_400_000


def test_an_attack_at_three_doors_is_known_and_the_next_is_recognised(site: Site) -> None:
    for number in range(3):
        assert site.threats() == []
        assert site.attack(number, site.like(ATTACKER))
    assert len(site.threats()) == 1
    assert site.warned_of(site.like(ATTACKER))
    assert not site.warned_of(site.like(99))
    (campaign,) = known.found(site.store, site.clock())
    assert (campaign.times, campaign.reporters, campaign.state) == (3, 3, "known")


def test_a_print_whose_event_is_not_here_waits_and_counts_once(site: Site) -> None:
    unit, values = site.units[0], site.like(ATTACKER)
    assert not site.send(unit, values, 1)
    site.event(unit, "DENIED_SPOOF")
    assert site.send(unit, values, 1)
    assert site.send(unit, site.like(ATTACKER), 1), "acknowledged, for the unit to forget it"
    assert [campaign.times for campaign in known.found(site.store, site.clock())] == [1]


def test_a_print_of_an_opening_or_of_no_attempt_is_no_attack(site: Site) -> None:
    for number in range(3):
        assert site.attack(number, site.like(ATTACKER), kind="GRANTED")
        assert site.attack(number, site.like(ATTACKER), kind="DENIED_PHRASE")
    assert known.found(site.store, site.clock()) == []


def test_a_stranger_and_another_units_print_are_refused(site: Site) -> None:
    refused: Counter[tuple[str, str]] = Counter()
    sealed = SealedPrint(site.units[0], 0, b"not for this registry")
    site.desk.take([(site.units[0], sealed.signed(site.signers[site.units[1]]))], refused)
    site.desk.take([(site.units[0], sealed.signed(site.signers[site.units[0]]))], refused)
    site.desk.take([(unit_id("st-mary/nobody"), b"")], refused)
    site.desk.take([(site.units[0], b"")], refused)
    assert sum(refused.values()) == 4


# -- Poisoning: who owns one unit gains nothing.


def test_one_unit_cannot_have_an_honest_person_warned_of_however_often_it_says_so(site: Site) -> None:
    for _ in range(50):
        site.attack(0, site.like(PERSON))
    site.attack(1, site.like(PERSON), kind="DENIED_PHRASE")  # the person slips once, somewhere else
    assert site.threats() == []
    assert not site.warned_of(site.like(PERSON))


def test_three_units_cannot_either_where_three_others_know_the_person(site: Site) -> None:
    for number in (3, 4, 5):
        for _ in range(3):
            site.granted(number, site.like(PERSON))
    for number in (0, 1, 2):
        for _ in range(20):
            site.attack(number, site.like(PERSON))
    hits = sum(site.warned_of(site.like(PERSON)) for _ in range(200))
    assert hits <= 2


def test_one_unit_cannot_clear_an_attacker_by_calling_the_attacks_granted(site: Site) -> None:
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    for _ in range(100):
        site.granted(0, site.like(ATTACKER))
    assert site.warned_of(site.like(ATTACKER))
    with site.store.reading() as db:
        count = db.execute(sa.select(sa.func.count()).select_from(honest)).scalar_one()
    assert count == Limits().honest_each


def test_one_unit_cannot_crowd_out_what_others_report(site: Site) -> None:
    site.attack(1, site.like(ATTACKER))
    site.attack(2, site.like(ATTACKER))
    for seed in range(100, 160):
        site.attack(0, site.like(seed))
    alone = [c for c in known.found(site.store, site.clock()) if c.units == (site.units[0],)]
    assert len(alone) == Limits().alone
    site.attack(3, site.like(ATTACKER))
    assert site.warned_of(site.like(ATTACKER))


def test_one_unit_cannot_walk_a_campaign_onto_a_person(site: Site) -> None:
    for number in range(4):
        site.attack(number, site.like(ATTACKER))
    between = site.like(ATTACKER, 0.0), site.like(PERSON, 0.0)
    for step in range(30):
        share = min(0.6, step / 40)
        mixed = [(1 - share) * a + share * b for a, b in zip(*map(numbers, between), strict=True)]
        site.attack(4, as_values(mixed))
    assert site.warned_of(site.like(ATTACKER))
    assert not site.warned_of(site.like(PERSON))


# -- Warning.


def test_units_that_answer_and_take_lists_are_told_once_and_again_of_news(site: Site) -> None:
    ready, old, silent = site.units[:3]
    site.say_healthy(ready)
    site.say_healthy(old, holds=None)
    assert site.desk.warn() == 1, "the first list names the key that prints are for"
    assert site.desk.warn() == 0
    (row,) = commands.listed(site.store, site.clock())
    assert (row["unit"], row["action"]) == (ready, "apply_threats")
    ((_, message),) = commands.due(site.store, site.clock())
    opened = open_command(message, site.orders.public_key(), ready, site.clock())
    first = ThreatList.from_bytes(opened.arguments["list"])
    assert (first.version, first.threats) == (1, ())
    assert first.key().public_numbers() == site.tenant.public_key().public_numbers()
    site.clock.now_ms += 700_000  # that command has expired
    site.say_healthy(ready, holds=1)
    assert site.desk.warn() == 0
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    assert site.desk.warn() == 1
    assert silent not in {row["unit"] for row in commands.listed(site.store, site.clock())}


def test_a_list_is_renewed_before_it_ends(site: Site) -> None:
    site.say_healthy(site.units[0])
    site.desk.warn()
    site.clock.now_ms += LIST_LIFE_MS // 2 + 1
    site.say_healthy(site.units[0], holds=1)
    assert site.desk.warn() == 1


def test_what_is_old_is_forgotten(site: Site) -> None:
    site.attack(0, site.like(ATTACKER))
    site.granted(1, site.like(PERSON))
    site.clock.now_ms += 31 * DAY_MS
    site.desk.warn()
    with site.store.reading() as db:
        for table in (campaigns, reports, prints, honest):
            assert db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


# -- The watch list.


def test_a_watched_attacker_is_warned_of_until_the_end_that_was_set(site: Site) -> None:
    site.attack(0, site.like(ATTACKER))
    (campaign,) = known.found(site.store, site.clock())
    code, told = site.run("watch-list", "add", str(campaign.number), "--reason", "caught at a door")
    assert (code, site.threats()) == (0, []), told  # the command's clock is years ahead of this one's
    known.watch(site.store, campaign.number, "caught at a door", 2, "m.desk", site.clock())
    assert site.threats() == [campaign.number]
    site.clock.now_ms += 2 * DAY_MS
    assert site.threats() == []


def test_a_line_that_was_ended_and_a_campaign_set_aside_warn_nobody(site: Site) -> None:
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    (number,) = site.threats()
    line = known.watch(site.store, number, "it was seen", 10, "m.desk", site.clock())
    known.set_aside(site.store, number, "a rehearsal", "m.desk", site.clock())
    assert (site.threats(), known.watched(site.store, site.clock())) == ([], [])
    with pytest.raises(SyncError, match="not in force"):
        known.end_watch(site.store, line, "m.desk", site.clock())
    line = known.watch(site.store, number, "seen again", 1, "m.desk", site.clock())
    known.end_watch(site.store, line, "m.desk", site.clock())
    assert known.watched(site.store, site.clock()) == []
    assert [one.ended_by for one in known.watched(site.store, site.clock(), ended=True)] == ["m.desk"] * 2


def test_a_campaign_of_another_kind_of_prints_is_not_said_to_be_warned_of(site: Site) -> None:
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    (number,) = site.threats()
    with site.store.transaction() as db:
        db.execute(sa.update(campaigns).values(model="prints-1"))
    assert site.threats() == []
    assert [one.state for one in known.found(site.store, site.clock())] == ["forming"]
    with pytest.raises(SyncError, match="prints-1"):
        known.watch(site.store, number, "it was seen", 10, "m.desk", site.clock())


@pytest.mark.parametrize(
    ("campaign", "reason", "days", "complaint"),
    [
        (9, "good reason", 1, "no campaign"),
        (1, " ", 1, "a reason"),
        (1, "a\nb c", 1, "a reason"),
        (1, "fine", 0, "end"),
    ],
)
def test_a_watch_without_campaign_reason_or_end_is_refused(
    site: Site, campaign: int, reason: str, days: int, complaint: str
) -> None:
    site.attack(0, site.like(ATTACKER))
    with pytest.raises(SyncError, match=complaint):
        known.watch(site.store, campaign, reason, days, "m.desk", site.clock())


def test_the_commands_list_what_there_is(site: Site) -> None:
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    code, told = site.run("campaigns", "list", "--json")
    assert (code, json.loads(told)["times"]) == (0, 3)
    assert "forming" in site.run("campaigns", "list")[1]
    assert site.run("watch-list", "list")[0] == 0


# -- Privacy.


def test_the_registry_keeps_no_print_of_a_failed_attempt_only_sums(site: Site) -> None:
    sent = [site.like(ATTACKER) for _ in range(3)]
    for number, values in enumerate(sent[1:], 1):
        site.attack(number, values)
    site.attack(1, sent[0])
    with site.store.reading() as db:
        kept = [
            value
            for table in (campaigns, reports, prints)
            for row in db.execute(sa.select(table))
            for value in row
        ]
    assert not {bytes(v) for v in kept if isinstance(v, bytes)} & set(sent)


class Dice(random.Random):
    """Remembers how wide the noise is that it is asked for, and adds none."""

    def __init__(self) -> None:
        super().__init__(1)
        self.noises: list[float] = []

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        self.noises.append(sigma)
        return mu


def test_what_is_shared_has_the_stated_noise_and_spends_a_budget_that_ends(site: Site) -> None:
    values = site.like(ATTACKER, 0.0)
    with site.store.transaction() as db:  # as if four hundred units had seen it
        for number in range(3):
            site.desk.intake.place(db, Bout(site.units[number], MODEL), Print(MODEL, values), begins=True)
        (row,) = db.execute(sa.select(reports).where(reports.c.unit == site.units[0]))
        sums = json.dumps([400 * value for value in json.loads(row.sums)])
        mine = reports.c.unit == site.units[0]
        db.execute(sa.update(reports).where(mine).values(sums=sums, counted=400))
    (number,) = site.threats()
    dice, signer = Dice(), FileSigner.generate()
    noises = dice.noises
    message, spent = sharing.share(site.store, signer, 2.0, "m.desk", site.clock(), "st-mary", dice)
    assert [one.campaign for one in spent] == [number]
    # The zCDP of what was drawn, turned back into epsilon, is within what was stated.
    least = sharing.DELTA
    sensitivity = 2.0 / 402
    rho = sensitivity**2 / (2 * noises[0] ** 2)
    epsilon = rho + 2 * math.sqrt(rho * math.log(1 / least))
    assert len(noises) == VALUES
    assert epsilon <= 2.0 * (1 - sharing.COUNT_SHARE)
    assert sharing.share(site.store, signer, 2.0, "m.desk", site.clock(), "st-mary", dice)[1]
    assert sharing.share(site.store, signer, 0.1, "m.desk", site.clock(), "st-mary", dice)[1] == [], "spent"
    other = Store.open("sqlite://")
    assert sharing.take_shared(other, message, signer.public_key(), "m.desk", site.clock()) == 1
    (taken,) = known.found(other, site.clock(), least=0)
    assert (taken.origin, taken.times, taken.reporters) == ("st-mary", 0, 0)
    with pytest.raises(ProofError):
        sharing.take_shared(other, message, FileSigner.generate().public_key(), "m.desk", site.clock())
    other.close()


def test_what_few_have_seen_is_not_shared_and_asking_costs(site: Site) -> None:
    for number in range(3):
        site.attack(number, site.like(ATTACKER))
    site.threats()
    signer, told = FileSigner.generate(), 0
    for _ in range(30):
        told += len(sharing.share(site.store, signer, 0.5, "m.desk", site.clock(), "st-mary")[1])
    assert told == 0
    with site.store.reading() as db:
        used = db.execute(sa.select(sa.func.sum(sharing.shares.c.epsilon))).scalar_one()
    assert used <= sharing.MOST_EPSILON


def test_noise_hides_one_attempt_among_many() -> None:
    # Of two neighbours, what is told of the one is at most e^epsilon as likely of the other, but for delta.
    epsilon, attempts, draws = 1.0, 100, 200_000
    noise, dice = sharing.noise_of(attempts, epsilon, 1e-3), random.Random(3)
    shift = 2.0 / attempts
    seen = [dice.gauss(0.0, noise) for _ in range(draws)]
    for cut in (0.0, noise, 2 * noise, 3 * noise):
        with_it = sum(value + shift > cut for value in seen) / draws
        without = sum(value > cut for value in seen) / draws
        assert with_it <= math.exp(epsilon) * without + 1e-3 + 4 * math.sqrt(with_it / draws)
