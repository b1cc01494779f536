"""What a unit's sync process obeys: some of it itself, some by an order to the door process beside it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from device.access.memory.holds import Hold
from device.access.memory.visits import Visit, from_text
from device.uplink.letters.prints import PrintMail
from device.uplink.orders import Action, Order, OrderError, await_done, post
from sync.events import MAX_SEQUENCE, AuditEvent
from sync.orders.command_handler import CommandFailedError, CommandHandler, CommandLedger
from sync.orders.commands import Arguments, Result
from sync.outbox import Outbox
from sync.outbox.unit_events import unit_event
from sync.plain_words import what_and_why
from sync.transport.agent import Agent

ORDER_WITHIN_S = 10.0
_DOOR = re.compile(r"[a-z0-9-]{1,32}")
_SUBJECTS = {
    Action.LOCK_DOWN: ("door", "*"),
    Action.END_LOCK_DOWN: ("door", "*"),
    Action.ERASE: ("person", ""),
    Action.END_HOLD: ("door", ""),
}
"""What an order is about: the argument that says it, and what it is without."""

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

    `ledger` is a file beside the audit log, `orders` the
    folder that the door process takes orders from, and within `order_within_s` seconds does them; `prints` is
    where it takes lists of threats from."""

    def ask(order: Order) -> None:
        _post(orders, order, order_within_s)

    def pass_on(action: Action, arguments: Arguments) -> None:
        ask(_order(action, arguments))

    def report_health(_: Arguments) -> None:
        agent.report_now()

    def resend(arguments: Arguments) -> None:
        after = arguments.get("after")
        if type(after) is not int or not 0 <= after <= MAX_SEQUENCE:
            raise CommandFailedError("bad_arguments")
        if not agent.resend_after(after):
            raise CommandFailedError("not_held")

    def lock_down(arguments: Arguments) -> None:
        pass_on(Action.LOCK_DOWN, arguments)

    def end_lock_down(arguments: Arguments) -> None:
        pass_on(Action.END_LOCK_DOWN, arguments)

    def hold_open(arguments: Arguments) -> None:
        ask(Order(Action.HOLD_OPEN, hold_subject(arguments)))

    def end_hold(arguments: Arguments) -> None:
        pass_on(Action.END_HOLD, arguments)

    def limit_visit(arguments: Arguments) -> None:
        ask(Order(Action.LIMIT_VISIT, visit_subject(arguments)))

    def lift_visit(arguments: Arguments) -> None:
        ask(Order(Action.LIFT_VISIT, visit_subject(arguments)))

    def apply_policy(arguments: Arguments) -> None:
        pass_on(Action.ADOPT_RULES, arguments)

    def apply_models(arguments: Arguments) -> None:
        pass_on(Action.ADOPT_MODELS, arguments)

    def apply_threats(arguments: Arguments) -> None:
        given = arguments.get("list")
        if type(given) is not bytes or set(arguments) != {"list"} or prints is None:
            raise CommandFailedError("bad_arguments")
        prints.deliver(given)
        pass_on(Action.ADOPT_THREATS, {})
        agent.report_now()

    def rotate_keys(arguments: Arguments) -> None:
        pass_on(Action.ROTATE_KEYS, arguments)

    def forget_person(arguments: Arguments) -> None:
        pass_on(Action.ERASE, arguments)

    def note(result: Result) -> None:
        # Low risk: a full log counts it as overflow, and keeps no command from its answer.
        outbox.append(command_event(result, door, keystore), risk="low", other_process=True)

    obeyed = (
        report_health,
        resend,
        lock_down,
        end_lock_down,
        apply_policy,
        apply_models,
        apply_threats,
        rotate_keys,
        forget_person,
        hold_open,
        end_hold,
        limit_visit,
        lift_visit,
    )
    return CommandHandler(
        agent.log.unit,
        command_key,
        agent.signer,
        CommandLedger(ledger),
        agent.time_ms,
        handlers={handler.__name__: handler for handler in obeyed},
        note=note,
    )


def command_event(result: Result, door: str, keystore: str) -> AuditEvent:
    """What became of a command is itself an event in the chain; `count` is the command's counter."""
    kind = "COMMAND_APPLIED" if result.status == "done" else "COMMAND_REFUSED"
    words = {"done": "on_request", "failed": "command_failed", "interrupted": "command_interrupted"}
    stale = result.why in ("expired", "future")
    reason = words.get(result.status, "command_expired" if stale else "command_unknown")
    time_ms, count = result.time_ms, result.counter
    return unit_event(kind, reason, door=door, time_ms=time_ms, keystore=keystore, count=count)


def _order(action: Action, arguments: Arguments) -> Order:
    """For the running door process: it alone holds rules, people and keys. Raises CommandFailedError."""
    name, default = _SUBJECTS.get(action, ("", ""))
    subject = arguments.get(name, default)
    if type(subject) is not str or not set(arguments) <= {name} - {""} or (name and not subject):
        raise CommandFailedError("bad_arguments")
    return Order(action, subject)


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
    """An order's subject: a pseudonym, and from when to when unless the visit is lifted. Raises
    CommandFailedError."""
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


def _post(folder: Path, order: Order, within_s: float) -> None:
    """Have the running door do it, and wait until it has."""
    try:
        await_done(post(folder, order), within_s)
    except (OrderError, OSError) as err:
        log.warning("the door process did not obey %s: %s", order.action, what_and_why(err))
        raise CommandFailedError("door_refused") from err
