"""The registry's side of commands, on both databases: counted, sent one at a time, answered once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from device.uplink.handler import hold_subject, visit_subject
from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.orders.commands import Arguments, Result, open_command
from sync.registry import commands
from sync.registry.cli import registry as registry_cli
from sync.service.command_line import wall_ms
from tests.sync.registry.ingest.test_ingest import Registry, Unit, cluster, registry, unit

__all__ = ["cluster", "registry", "unit"]
DESK = FileSigner.generate()


class Orders:
    """A desk that orders one unit about, and the unit that answers."""

    def __init__(self, registry: Registry, unit: Unit) -> None:
        self.registry, self.unit = registry, unit

    def order(self, action: str = "report_health", life_ms: int = 60_000, **arguments: Any) -> int:
        made = commands.issue(
            self.registry.store,
            DESK,
            self.unit.unit,
            action,
            arguments,
            account="m.desk",
            now_ms=self.registry.clock(),
            life_ms=life_ms,
        )
        return made.counter

    def sent(self) -> list[tuple[int, str]]:
        now = self.registry.clock()
        out = commands.due(self.registry.store, now)
        opened = [open_command(message, DESK.public_key(), name, now) for name, message in out]
        return [(command.counter, command.action) for command in opened]

    def answers(self, counter: int, status: Any = "done", why: Any = "none") -> None:
        result = Result(self.unit.unit, counter, status, why, self.registry.clock())
        self.registry.worker.results([(self.unit.unit, result.signed(self.unit.signer))])

    def states(self) -> dict[int, str]:
        rows = commands.listed(self.registry.store, self.registry.clock(), self.unit.unit)
        return {row["counter"]: row["state"] for row in rows}


@pytest.fixture
def orders(registry: Registry, unit: Unit) -> Orders:
    return Orders(registry, unit)


def test_commands_go_out_one_at_a_time_in_order_and_again_until_answered(orders: Orders) -> None:
    assert [orders.order(), orders.order("resend", after=7)] == [1, 2]
    assert orders.sent() == [(1, "report_health")]
    assert orders.sent() == [], "it was sent just now"
    orders.registry.clock.now_ms += 11_000
    assert orders.sent() == [(1, "report_health")]
    orders.answers(1)
    assert orders.sent() == [(2, "resend")]
    orders.answers(2, "failed", "not_held")
    assert orders.sent() == []
    assert orders.states() == {1: "done", 2: "failed"}


def test_an_expired_command_is_sent_no_more_and_keeps_nobody_waiting(orders: Orders) -> None:
    orders.order(life_ms=1000)
    orders.order("lock_down")
    orders.registry.clock.now_ms += 1000
    assert orders.sent() == [(2, "lock_down")]
    assert orders.states() == {1: "expired", 2: "waiting"}


def test_the_first_answer_counts_and_no_other_changes_it(orders: Orders) -> None:
    orders.order()
    orders.answers(1, "interrupted", "killed")
    orders.answers(1, "done")
    assert orders.states() == {1: "interrupted"}
    assert orders.registry.refusals() == {}


def test_answers_that_are_forged_foreign_malformed_or_to_nothing_are_refused_and_counted(
    orders: Orders,
) -> None:
    orders.order()
    worker, name = orders.registry.worker, orders.unit.unit
    genuine = Result(name, 1, "done", "none", 0)
    foreign = Result(unit_id("st-mary/icu-9"), 1, "done", "none", 0).signed(orders.unit.signer)
    answers = [
        *((name, payload) for payload in (b"", b"\xff" * 9000, genuine.signed(orders.unit.signer)[:-1])),
        (name, genuine.signed(FileSigner.generate())),
        (name, foreign),
        (name, Result(name, 77, "done", "none", 0).signed(orders.unit.signer)),
        (unit_id("no/body"), genuine.signed(orders.unit.signer)),
    ]
    worker.process([], worker.results(answers))
    assert orders.states() == {1: "waiting"}
    assert orders.registry.worker.counts.refused == {"malformed result": 3, "foreign result": 4}


@pytest.mark.parametrize(
    ("action", "given", "subject_of"),
    [
        (
            "hold_open",
            "door=pharmacy begins_ms=1000 ends_ms=61000 first_person=1 on_holidays=0",
            hold_subject,
        ),
        (
            "limit_visit",
            "person=7b0c1f3a-8c55-4d5e-9a77-1f0e7c2b9d10 begins_ms=1000 ends_ms=61000",
            visit_subject,
        ),
    ],
)
def test_what_is_typed_at_the_command_line_is_what_a_door_takes(
    orders: Orders, tmp_path: Path, action: str, given: str, subject_of: Callable[[Arguments], str]
) -> None:
    desk = FileSigner.load_or_create(tmp_path / "commands.key")
    settings = [part for pair in given.split() for part in ("--set", pair)]
    told = CliRunner().invoke(
        registry_cli,
        [
            "command",
            str(orders.unit.unit),
            action,
            *settings,
            "--signing-key",
            str(tmp_path / "commands.key"),
            "--database",
            orders.registry.url,
        ],
    )
    assert told.exit_code == 0, told.output
    now = wall_ms()
    (name, message), *_ = commands.due(orders.registry.store, now)
    assert subject_of(open_command(message, desk.public_key(), name, now).arguments)


def test_an_unregistered_or_revoked_unit_is_given_no_command(orders: Orders) -> None:
    store, now = orders.registry.store, orders.registry.clock()
    store.revoke(orders.unit.unit, now)
    for name in (orders.unit.unit, unit_id("no/body")):
        with pytest.raises(SyncError, match="not registered, or it was revoked"):
            commands.issue(store, DESK, name, "lock_down", {}, account="x", now_ms=now, life_ms=1000)


def test_two_workers_never_both_send_a_command(orders: Orders) -> None:
    orders.order()
    first = commands.due(orders.registry.store, orders.registry.clock())
    assert (len(first), commands.due(orders.registry.store, orders.registry.clock())) == (1, [])
