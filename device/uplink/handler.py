"""Obeys commands in the uplink process: some itself, most by an order to the door process."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from device.access.memory.holds import Hold
from device.access.memory.visits import Visit, from_text
from device.uplink.letters.prints import PrintMail
from device.uplink.orders import Action, Order, OrderError, await_done, post
from sync.events import AuditEvent
from sync.orders.command_handler import CommandFailedError, CommandHandler, CommandLedger, number
from sync.orders.commands import Arguments, Result
from sync.outbox import Outbox
from sync.outbox.unit_events import unit_event
from sync.plain_words import what_and_why
from sync.transport.agent import Agent

ORDER_WITHIN_S = 10.0
_DOOR = re.compile(r"[a-z0-9-]{1,32}")
Subject = Callable[[Arguments], str]
"""Reads from a command what its order is about. Raises CommandFailedError."""

log = logging.getLogger(__name__)


def unit_handler(
    agent: Agent,
    outbox: Outbox,
    command_key: ec.EllipticCurvePublicKey,
    ledger: Path,
    door: str,
    keystore: str,
    orders: Path,
    prints: PrintMail | None = None,
    order_within_s: float = ORDER_WITHIN_S,
) -> CommandHandler:
    """The handler of commands to `agent`; its key signs the answers.

    `ledger` is a file beside the audit log. The door process takes orders from the folder `orders`, and obeys
    each within `order_within_s` seconds. It takes lists of threats from `prints`.
    """

    def ask(action: Action, subject: Subject, arguments: Arguments) -> None:
        """Have the running door do it, for it alone holds rules, people and keys; wait until it has."""
        order = Order(action, subject(arguments))
        try:
            await_done(post(orders, order), order_within_s)
        except (OrderError, OSError) as err:
            log.warning("the door process did not obey %s: %s", action, what_and_why(err))
            raise CommandFailedError("door_refused") from err

    def report_health(_: Arguments) -> None:
        agent.report_now()

    def resend(arguments: Arguments) -> None:
        if not agent.resend_after(number(arguments, "after")):
            raise CommandFailedError("not_held")

    def apply_threats(arguments: Arguments) -> None:
        given = arguments.get("list")
        if type(given) is not bytes or set(arguments) != {"list"} or prints is None:
            raise CommandFailedError("bad_arguments")
        prints.deliver(given)
        ask(Action.ADOPT_THREATS, _nothing, {})
        agent.report_now()

    def note(result: Result) -> None:
        # Low risk: a full log counts it as overflow, and keeps no command from its answer.
        outbox.append(command_event(result, door, keystore), risk="low", other_process=True)

    passed_on = {name: partial(ask, *order) for name, order in _ORDERS.items()}
    own = {"report_health": report_health, "resend": resend, "apply_threats": apply_threats}
    return CommandHandler(
        agent.log.unit,
        command_key,
        agent.signer,
        CommandLedger(ledger),
        agent.time_ms,
        handlers={**passed_on, **own},
        note=note,
    )


def command_event(result: Result, door: str, keystore: str) -> AuditEvent:
    """The event of a command's outcome; `count` is the command's counter."""
    kind = "COMMAND_APPLIED" if result.status == "done" else "COMMAND_REFUSED"
    words = {"done": "on_request", "failed": "command_failed", "interrupted": "command_interrupted"}
    stale = result.why in ("expired", "future")
    reason = words.get(result.status, "command_expired" if stale else "command_unknown")
    time_ms, count = result.time_ms, result.counter
    return unit_event(kind, reason, door=door, time_ms=time_ms, keystore=keystore, count=count)


def _nothing(arguments: Arguments) -> str:
    """Of an order about the whole unit."""
    if arguments:
        raise CommandFailedError("bad_arguments")
    return ""


def _named(name: str, default: str = "") -> Subject:
    """What the argument `name` says, the only one; `default` where it may be left out."""

    def subject(arguments: Arguments) -> str:
        found = arguments.get(name, default)
        if type(found) is not str or not found or not set(arguments) <= {name}:
            raise CommandFailedError("bad_arguments")
        return found

    return subject


def hold_subject(arguments: Arguments) -> str:
    """An order's subject. Raises CommandFailedError."""
    values = [arguments.get(name) for name in ("begins_ms", "ends_ms", "first_person", "on_holidays")]
    door = arguments.get("door")
    if len(arguments) != 5 or type(door) is not str or not _DOOR.fullmatch(door):
        raise CommandFailedError("bad_arguments")
    begins_ms, ends_ms, first, holidays = (value if type(value) is int else -1 for value in values)
    if first not in (0, 1) or holidays not in (0, 1):
        raise CommandFailedError("bad_arguments")
    try:
        return Hold(begins_ms / 1000, ends_ms / 1000, bool(first), bool(holidays)).to_text(door)
    except ValueError as err:
        raise CommandFailedError("bad_arguments") from err


def visit_subject(arguments: Arguments) -> str:
    """An order's subject: a pseudonym, and from when to when unless the visit is lifted.

    Raises CommandFailedError.
    """
    person = arguments.get("person")
    times = [arguments[name] for name in ("begins_ms", "ends_ms") if name in arguments]
    if type(person) is not str or len(arguments) != 1 + len(times) or len(times) == 1:
        raise CommandFailedError("bad_arguments")
    try:
        begins_ms, ends_ms = (time if type(time) is int else -1 for time in times or (0, 1))
        line = Visit(begins_ms / 1000, ends_ms / 1000).to_text(person) if times else person
        from_text(line)
    except ValueError as err:
        raise CommandFailedError("bad_arguments") from err
    return line


_ORDERS: dict[str, tuple[Action, Subject]] = {
    "lock_down": (Action.LOCK_DOWN, _named("door", "*")),
    "end_lock_down": (Action.END_LOCK_DOWN, _named("door", "*")),
    "apply_policy": (Action.ADOPT_RULES, _nothing),
    "apply_models": (Action.ADOPT_MODELS, _nothing),
    "rotate_keys": (Action.ROTATE_KEYS, _nothing),
    "forget_person": (Action.ERASE, _named("person")),
    "hold_open": (Action.HOLD_OPEN, hold_subject),
    "end_hold": (Action.END_HOLD, _named("door")),
    "limit_visit": (Action.LIMIT_VISIT, visit_subject),
    "lift_visit": (Action.LIFT_VISIT, visit_subject),
}
"""Commands that go on to the door process as orders."""
