"""Commands: obeyed at most once, in order, in time, by the unit they are for; and answered always."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from device.uplink import orders
from device.uplink.handler import unit_handler
from device.uplink.orders import Order
from sync import cose
from sync.errors import MalformedError, ProofError, SyncError
from sync.events import Record, unit_id
from sync.keys import FileSigner
from sync.orders.command_handler import CommandFailedError, CommandHandler, CommandLedger
from sync.orders.commands import ACTIONS, Command, Result, open_result
from sync.outbox import Outbox, OutboxLimits
from sync.transport.agent import Agent, AgentSettings
from sync.transport.topics import COMMANDS, EVENTS, HEALTH, RESULTS, topic
from tests.sync.parts import DOORS, START_MS, UNIT, Clock, SoftwareSigner, event
from tests.sync.transport.test_agent import FakeLink

REGISTRY = FileSigner.generate()
SIGNER = SoftwareSigner()
NAME = unit_id(UNIT)


def command(counter: int = 1, **changes: Any) -> Command:
    fields = {"issued_ms": START_MS, "expires_ms": START_MS + 60_000, "action": "lock_down", **changes}
    return Command(fields.pop("unit", NAME), counter, **fields)


class PowerCutError(BaseException):
    """Nothing catches it: what runs stops where it is."""


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.obeyed: list[Mapping[str, Any]] = []
        self.noted: list[Result] = []
        self.trouble: BaseException | None = None
        ledger = CommandLedger(folder / "commands")
        handlers = {"lock_down": self.obey}
        key = REGISTRY.public_key()
        self.handler = CommandHandler(NAME, key, SIGNER, ledger, self.clock, handlers, self.noted.append)

    def obey(self, arguments: Mapping[str, Any]) -> None:
        self.obeyed.append(arguments)
        if self.trouble is not None:
            raise self.trouble

    def hears(self, made: Command, signer: FileSigner = REGISTRY) -> tuple[int, str, str]:
        result = open_result(self.handler.take(made.signed(signer)), SIGNER.public_key(), NAME)
        return result.counter, result.status, result.why


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_command_is_obeyed_once_also_across_a_restart(desk: Desk, tmp_path: Path) -> None:
    assert desk.hears(command(3, arguments={"doors": "all"})) == (3, "done", "none")
    again = Desk(tmp_path)
    for known in (desk, again):
        assert known.hears(command(3)) == (3, "done", "none"), "asked again, it answers again"
    assert again.hears(command(5))[1] == "done"
    for overtaken in (command(4), command(3)):
        with pytest.raises(ProofError, match="obeyed before"):
            again.hears(overtaken)
    assert (desk.obeyed, len(again.obeyed), len(again.noted)) == ([{"doors": "all"}], 1, 1)


def test_a_unit_killed_while_it_obeys_does_not_try_again_and_says_so(desk: Desk, tmp_path: Path) -> None:
    desk.trouble = PowerCutError()
    with pytest.raises(PowerCutError):
        desk.hears(command(1))
    again = Desk(tmp_path)
    answer = again.handler.last_answer()
    assert answer is not None
    result = open_result(answer, SIGNER.public_key(), NAME)
    assert (result.counter, result.status, result.why) == (1, "interrupted", "killed")
    assert again.hears(command(1))[1] == "interrupted"
    assert again.hears(command(2))[1] == "done"
    assert (len(desk.obeyed), len(again.obeyed)) == (1, 1)


@pytest.mark.parametrize(("seconds", "why"), [(61, "expired"), (-120, "future")])
def test_a_command_outside_its_time_is_refused_and_answered_once(desk: Desk, seconds: int, why: str) -> None:
    desk.clock.now_ms += seconds * 1000
    assert desk.hears(command()) == (1, "refused", why)
    desk.clock.now_ms = START_MS
    assert desk.hears(command()) == (1, "refused", why), "its turn is over, whatever the clock does next"
    assert (desk.obeyed, len(desk.noted)) == ([], 1)


def test_foreign_and_forged_commands_receipts_and_noise_are_refused_and_use_up_no_number(desk: Desk) -> None:
    with pytest.raises(ProofError, match="another unit"):
        desk.hears(command(unit=unit_id("st-mary/icu-3")))
    with pytest.raises(ProofError):
        desk.hears(command(), FileSigner.generate())
    other = cose.sign1(cose.peek1(command().signed(REGISTRY)), REGISTRY, "application/ostiary-receipt+cbor")
    for message in (other, b"", b"\xff" * 99, command().signed(REGISTRY)[:-1]):
        with pytest.raises((MalformedError, ProofError)):
            desk.handler.take(message)
    assert (desk.obeyed, desk.noted, desk.handler.last_answer()) == ([], [], None)
    assert desk.hears(command())[1] == "done"


def test_what_a_unit_cannot_do_it_says_in_a_word(desk: Desk) -> None:
    assert desk.hears(command(1, action="rotate_keys")) == (1, "refused", "unknown_action")
    for number, (trouble, why) in enumerate(
        [(CommandFailedError("not_held"), "not_held"), (SyncError("x"), "fault"), (OSError(5, "x"), "fault")],
        2,
    ):
        desk.trouble = trouble
        assert desk.hears(command(number)) == (number, "failed", why)
    assert [result.status for result in desk.noted] == ["refused", "failed", "failed", "failed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "open_all_doors"},
        {"action": ["lock_down"]},
        {"expires_ms": START_MS},
        {"expires_ms": START_MS + 10**10},
        {"arguments": {"Name": "x"}},
        {"arguments": {"name": 1.5}},
        {"arguments": {"name": "x" * 3000}},
        {"counter": 0},
    ],
)
def test_a_command_that_says_too_much_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        command(**changes)


@pytest.mark.parametrize("damage", [b"seven", b"", b"\x83\x01\x07\x07", b"\x83\x01\x20\xf6", bytes(9000)])
def test_a_damaged_ledger_obeys_nothing(desk: Desk, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "commands").write_bytes(damage)
    with pytest.raises(SyncError, match="damaged"):
        desk.hears(command())
    assert desk.obeyed == []


def test_results_are_the_units_own_words_and_no_others() -> None:
    genuine = Result(NAME, 1, "done", "none", START_MS)
    message = genuine.signed(SIGNER)
    assert open_result(message, SIGNER.public_key(), NAME) == genuine
    with pytest.raises(ProofError):
        open_result(message, SIGNER.public_key(), unit_id("st-mary/icu-3"))
    with pytest.raises(ProofError):
        open_result(message, FileSigner.generate().public_key(), NAME)
    for wrong in (
        Result(NAME, 1, "Maria Rossi", "none", START_MS),  # type: ignore[arg-type]
        Result(NAME, 1, "done", "she said so", START_MS),  # type: ignore[arg-type]
        Result(NAME, -1, "done", "none", START_MS),
        Result(NAME, 1, "done", "none", "now"),  # type: ignore[arg-type]
    ):
        with pytest.raises(MalformedError):
            open_result(wrong.signed(SIGNER), SIGNER.public_key(), NAME)


def test_there_is_no_command_that_lets_somebody_in() -> None:
    """A hold is the one that unlocks: its end is part of it, and only a door whose rules say so obeys."""
    assert {action for action in ACTIONS if "open" in action or "unlock" in action} == {"hold_open"}


class Unit:
    """A unit's agent with its desk, and the other end of its line."""

    def __init__(self, folder: Path, *, desk: bool = True, order_within_s: float = 10.0) -> None:
        self.seconds = 0.0
        self.link = FakeLink()
        limits = OutboxLimits(batch_events=2, ballast_bytes=0)
        self.outbox = Outbox(folder / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock(), limits=limits)
        self.agent = Agent(
            log=self.outbox,
            signer=SIGNER,
            link=self.link,  # type: ignore[arg-type]
            registry_key=REGISTRY.public_key(),
            now_s=lambda: self.seconds,
            time_ms=Clock(),
            settings=AgentSettings(window=9, seal_every_s=0.0),
        )
        if desk:
            key = REGISTRY.public_key()
            ledger, self.orders = folder / "commands", folder / "orders"
            self.agent.handler = unit_handler(
                self.agent, self.outbox, key, ledger, DOORS[0], "tpm", self.orders,
                order_within_s=order_within_s,
            )  # fmt: skip

    def hears(self, made: Command) -> None:
        self.link.deliver(made.signed(REGISTRY), topic(NAME, COMMANDS))
        self.agent.step()

    def sent(self, channel: str) -> list[bytes]:
        return [payload for name, payload in self.link.sent if name == topic(NAME, channel)]

    def results(self) -> list[tuple[int, str, str]]:
        opened = [open_result(payload, SIGNER.public_key(), NAME) for payload in self.sent(RESULTS)]
        return [(result.counter, result.status, result.why) for result in opened]


def test_a_unit_reports_and_resends_when_told_and_writes_down_that_it_did(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    for number in range(4):
        unit.outbox.append(event(number))
    unit.agent.step()
    before = len(unit.sent(HEALTH)), len(unit.sent(EVENTS))
    unit.hears(command(1, action="report_health"))
    assert len(unit.sent(HEALTH)) == before[0] + 1
    unit.hears(command(2, action="resend", arguments={"after": 2}))
    assert len(unit.sent(EVENTS)) > before[1]
    unit.hears(command(3, action="resend", arguments={"after": 999}))
    unit.hears(command(4, action="resend"))
    assert unit.results() == [
        (1, "done", "none"), (2, "done", "none"), (3, "failed", "not_held"), (4, "failed", "bad_arguments"),
    ]  # fmt: skip
    unit.outbox.seal(SIGNER)
    bodies, position = [], 0
    while batch := unit.outbox.batch_after(position):
        bodies += batch.bodies
        position = batch.size
    noted = [Record.from_bytes(body).event for body in bodies[4:]]
    assert [(e.kind, e.reason, e.count) for e in noted] == [
        ("COMMAND_APPLIED", "on_request", 1),
        ("COMMAND_APPLIED", "on_request", 2),
        ("COMMAND_REFUSED", "command_failed", 3),
        ("COMMAND_REFUSED", "command_failed", 4),
    ]
    assert {(e.boot, e.keystore) for e in noted} == {(3, "tpm")}


def door_process(folder: Path, obeyed: list[Order], stop: threading.Event) -> None:
    """What the door does beside its attempts: takes orders, and refuses those for doors it has not."""
    while not stop.wait(0.02):
        for path, order in orders.waiting(folder):
            obeyed.append(order)
            orders.done(path, "" if order.subject in ("*", "", DOORS[0]) else "no such door")


def test_lock_downs_and_rules_reach_the_running_door_and_its_refusal_comes_back(tmp_path: Path) -> None:
    unit, obeyed, stop = Unit(tmp_path, order_within_s=180.0), [], threading.Event()
    unit.agent.step()
    door = threading.Thread(target=door_process, args=(unit.orders, obeyed, stop))
    door.start()
    unit.hears(command(1, action="lock_down"))
    unit.hears(command(2, action="end_lock_down", arguments={"door": DOORS[0]}))
    unit.hears(command(3, action="apply_policy"))
    unit.hears(command(4, action="lock_down", arguments={"door": "elsewhere"}))
    unit.hears(command(5, action="lock_down", arguments={"name": "Maria Rossi"}))
    stop.set()
    door.join()
    assert [(order.action, order.subject) for order in obeyed] == [
        ("lock_down", "*"), ("end_lock_down", DOORS[0]), ("adopt_rules", ""), ("lock_down", "elsewhere"),
    ]  # fmt: skip
    assert [(status, why) for _, status, why in unit.results()] == [
        *[("done", "none")] * 3, ("failed", "door_refused"), ("failed", "bad_arguments"),
    ]  # fmt: skip


def test_an_order_to_a_door_process_that_does_not_run_is_taken_back(tmp_path: Path) -> None:
    unit = Unit(tmp_path, order_within_s=0.1)
    unit.agent.step()
    unit.hears(command(1, action="lock_down"))
    assert unit.results() == [(1, "failed", "door_refused")]
    assert list(unit.orders.iterdir()) == [], "it must not lock the door tomorrow"


def test_an_answer_that_was_lost_with_the_connection_is_given_again(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.hears(command(1, action="report_health"))
    unit.link.sent.clear()
    unit.link.connections += 1
    unit.agent.step()
    assert unit.results() == [(1, "done", "none")]


def test_a_unit_without_a_command_key_obeys_nobody_and_counts_it(tmp_path: Path) -> None:
    unit = Unit(tmp_path, desk=False)
    unit.hears(command(1, action="report_health"))
    assert (unit.results(), unit.agent.counts.messages_refused) == ([], 1)


def test_what_is_no_command_is_counted_and_shown_and_stops_nothing(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.agent.step()
    for payload in (b"", b"\xff" * 5000, command(1).signed(FileSigner.generate())):
        unit.link.deliver(payload, topic(NAME, COMMANDS))
    unit.hears(command(2, action="report_health"))
    assert unit.results() == [(2, "done", "none")]
    assert unit.agent.counts.messages_refused == 3
    assert b'"messages_refused": 3' in unit.agent.health("online")
