"""`ostiary policy`: check and adopt rules, explain decisions, pardon, lock down."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path

import click

from device.access.memory.history import History, HistoryBusyError
from device.access.memory.timekeeping import BUILT, TimeSeen
from device.access.passage import duress_digest
from device.access.rules import Rules, RulesError, load_rules
from device.access.rules.explain import explain as explain_event
from device.access.rules.levels import COSTS, LEVELS, MEANT_FOR, asked, told
from device.access.rules.summary import remarks, summary
from device.clock import system_clock
from device.commands.people import PERSON
from device.errors import DeviceError
from device.evidence.vocabulary import Language
from device.evidence.wordlists import duress_words
from device.liveness.memory_file import remove as remove_memory
from device.secure_store import open_store
from device.settings import load, state_dir
from device.state_folder import StateFolder
from device.unit.assembly import cannot_ask, open_history, open_trail, rules_of
from device.uplink.orders import Action, Order, await_done, post
from sync.durable import replace_file
from sync.events import AuditEvent, Record
from sync.plain_file import check_plain, plain_bytes
from sync.plain_words import why

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def policy() -> None:
    """Rules of the doors, and why they decided as they did.

    \b
    Example: ostiary policy check rules.toml
    """


@policy.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Mistakes as a JSON object.")
def check(file: Path, as_json: bool) -> None:
    """Check a rules FILE: list every mistake (exit code 1), or tell what it means, door by door.

    \b
    Example: ostiary policy check rules.toml
    """
    rules: Rules | None = None
    mistakes: tuple[str, ...] = ()
    try:
        rules = load_rules(file)
        if why := cannot_ask(rules, load()):
            rules, mistakes = None, (why,)
    except RulesError as err:
        mistakes = err.mistakes
    if as_json:
        click.echo(json.dumps({"valid": rules is not None, "mistakes": list(mistakes)}))
    elif rules is not None:
        click.echo("\n".join(summary(rules)))
        for remark in remarks(rules, system_clock().wall):
            click.echo(f"note: {remark}")
    else:
        for mistake in mistakes:
            click.echo(f"{file}: {mistake}")
    if rules is None:
        raise click.exceptions.Exit(1)


@policy.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each level.")
def levels(as_json: bool) -> None:
    """List the security levels that a risk class may name: what each asks for, and where it belongs.

    `docs/evaluation/attempts.md` has the share of the right people and of strangers that each lets in.

    \b
    Example: ostiary policy levels
    """
    for name, risk in LEVELS.items():
        if as_json:
            click.echo(
                json.dumps({"level": name, "meant_for": MEANT_FOR[name], "costs": COSTS[name], **asked(risk)})
            )
        else:
            click.echo(f"{name}: for {MEANT_FOR[name]}\n    {COSTS[name]}\n    {told(risk)}")


@policy.command()
@click.argument("event_id", type=click.UUID)
@click.option("--rules", "rules_file", type=FILE, help="The rules of that time, if not the present ones.")
@click.option("--json", "as_json", is_flag=True, help="The explanation and the event's facts as JSON.")
def explain(event_id: uuid.UUID, rules_file: Path | None, as_json: bool) -> None:
    """Tell in one paragraph why the decision with EVENT_ID fell as it did.

    The unit's own log is read, which holds what the registry has not yet acknowledged; `ostiary policy
    recent` lists the ids.

    \b
    Example: ostiary policy explain 5f1c9f0e-6f4b-4a53-9a6c-0e5d0d1f2a3b
    """
    event = find_event(StateFolder(state_dir()).audit_log, event_id)
    own = StateFolder(state_dir()).rules
    path = rules_file or (own if own.exists() else None)
    text = explain_event(event, load_rules(path) if path is not None else None)
    if as_json:
        facts = {"event_id": str(event_id), "kind": event.kind, "reason": event.reason, "door": event.door}
        click.echo(json.dumps({**facts, "policy": event.policy, **event.scores(), "explanation": text}))
    else:
        click.echo(text)


@policy.command()
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def recent(count: int, as_json: bool) -> None:
    """List the latest events of this unit's log, newest first, with the ids that `explain` takes.

    \b
    Example: ostiary policy recent --count 3
    """
    events = list(islice(_logged(StateFolder(state_dir()).audit_log), count))
    if as_json:
        facts = [
            {
                "event_id": str(e.event_id),
                "time_ms": e.time_ms,
                "door": e.door,
                "kind": e.kind,
                "reason": e.reason,
            }
            for e in events
        ]
        click.echo(json.dumps(facts))
        return
    for event in events:
        when = datetime.fromtimestamp(event.time_ms / 1000, UTC)
        click.echo(
            f"{when:%Y-%m-%d %H:%M:%S}Z  {event.event_id}  {event.door}  {event.kind} ({event.reason})"
        )
    if not events:
        click.echo("Nothing waits in this unit's log; what was sent is on the registry's dashboard.")


def find_event(outbox: Path, event_id: uuid.UUID) -> AuditEvent:
    """The event in a unit's log. Raises DeviceError when it is not there."""
    for event in _logged(outbox, event_id.bytes):
        if event.event_id == event_id:
            return event
    raise DeviceError(
        f"no event {event_id} in this unit's log; if it was sent, the registry's dashboard explains it"
    )


def _logged(outbox: Path, holding: bytes = b"") -> Iterator[AuditEvent]:
    """Events whose record contains `holding`, newest first. Raises DeviceError."""
    if not outbox.exists():
        raise DeviceError("this unit has no audit log yet: no decision was made here")
    try:
        check_plain(outbox)
        with closing(sqlite3.connect(f"{outbox.resolve().as_uri()}?mode=ro", uri=True)) as log:
            rows = log.execute(
                "SELECT body FROM events WHERE ? = x'' OR instr(body, ?) ORDER BY sequence DESC",
                (holding, holding),
            )
            for (body,) in rows:
                yield Record.from_bytes(body).event
    except sqlite3.Error as err:
        raise DeviceError(f"the audit log cannot be read ({why(err)}); run `ostiary doctor`") from err


@policy.command()
def example() -> None:
    """Print a rules file that explains itself, to start from.

    \b
    Example: ostiary policy example > rules.toml
    """
    click.echo((files("device.access.rules") / "example.toml").read_text("utf-8"), nl=False)


@policy.command()
@click.argument("uid", type=PERSON)
@click.option("--word", prompt="Duress word", hide_input=True, help="Asked for, unseen, when left out.")
def duress(uid: str, word: str) -> None:
    """Print the line for a person's duress word; the rules hold this and never the word.

    The word is said after the phrase, in its language. It must be one of the unit's duress words, which no
    phrase ever contains. Somebody who is asked in two languages has two words: `duress` takes a list.

    \b
    Example: ostiary policy duress 4f2a
    """
    words = [one for language in Language for one in duress_words(language)]
    if word.casefold() not in map(str.casefold, words):
        raise click.UsageError(f"choose one of: {', '.join(words)}")
    with open_store(state_dir(), load().store) as store:
        click.echo(f'duress = "{duress_digest(store.mac, uid, word).hex()}"')


@policy.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def failures(as_json: bool) -> None:
    """List who has failed lately, and how often in a row. The unit must be stopped.

    \b
    Example: ostiary policy failures
    """
    with _history() as history:
        table = dict(sorted(history.failing().items(), key=lambda item: -item[1]))
    if as_json:
        click.echo(json.dumps(table))
        return
    for subject, count in table.items():
        click.echo(f"{count:4}  {subject}")
    if not table:
        click.echo("Nobody has failed since their last success.")


@policy.command()
@click.argument("uid", type=PERSON)
def pardon(uid: str) -> None:
    """Take back the failures of a person, and forget where they are, so that they may try again.

    Works on a running unit too. Exit code 1 where this unit knows nobody by that id.

    \b
    Example: ostiary policy pardon 4f2a
    """
    try:
        with _history() as history:
            pardoned = history.pardon(f"person:{uid}")
    except HistoryBusyError:
        pardoned = _known(uid)
        if pardoned:
            _order(Order(Action.PARDON, uid))
    if not pardoned and not _known(uid):
        click.echo(f"this unit knows nobody called {uid}; `ostiary people` names who is enrolled", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{uid} may try again." if pardoned else f"{uid} had no failures.")


@policy.command("trust-clock")
def trust_clock() -> None:
    """Say that this unit's clock is right, although it lies behind a time that the unit has seen.

    Until then doors with hours, and people whose access begins or ends, wait. Look at the clock first: it is
    printed. Works on a running unit too.

    \b
    Example: ostiary policy trust-clock
    """
    now = system_clock()
    if now.wall < BUILT:
        raise DeviceError(f"the clock says {now.wall:%Y-%m-%d}, before this program was made; set it")
    try:
        with _history() as history:
            history.saw_time(TimeSeen(now.wall.timestamp()))
            history.keep()
    except HistoryBusyError:
        _order(Order(Action.TRUST_CLOCK))
    else:
        settings = load()
        with (
            open_store(state_dir(), settings.store, warn=lambda _: None) as store,
            open_trail(store, settings, state_dir()) as trail,
        ):
            trail.note("CLOCK_SET", "operator", settings.door.name, risk="low")
    click.echo(f"From now on {now.wall:%Y-%m-%d %H:%M} UTC is right.")


@policy.command("lock-down")
@click.option("--door", default="*", help="One door of this unit; all of them when left out.")
@click.option("--lift", is_flag=True, help="End it.")
def lock_down(door: str, lift: bool) -> None:
    """Lock doors until that is lifted, also across restarts; the exit stays free.

    Nobody passes but the roles under `[lock_down]` in the rules, and they with every factor. Works on a
    running unit too, and takes back a strike that is released at that moment.

    \b
    Example: ostiary policy lock-down
    """
    try:
        with _history() as history:
            rules = rules_of(state_dir(), load().door.name)
            if door != "*" and door not in rules.doors:
                raise click.UsageError(
                    f"the rules have no door {door!r}; they have {', '.join(sorted(rules.doors))}"
                )
            history.lock_down(door, on=not lift)
    except HistoryBusyError:
        _order(Order(Action.END_LOCK_DOWN if lift else Action.LOCK_DOWN, door))
    which = "every door" if door == "*" else f"door {door}"
    click.echo(f"Lock-down of {which} is lifted." if lift else f"Lock-down of {which}.")


@policy.command()
@click.argument("file", type=FILE)
def adopt(file: Path) -> None:
    """Check a rules FILE and put it in force, also on a running unit. Its version must be higher.

    \b
    Example: ostiary policy adopt rules.toml
    """
    click.echo(adopt_rules(file))


def adopt_rules(file: Path) -> str:
    """Put the rules in `file` in force; returns a sentence for the person. Raises RulesError."""
    rules = load_rules(file)
    path = StateFolder(state_dir()).rules
    old = load_rules(path) if path.exists() else None
    if old is not None and rules.version <= old.version:
        raise RulesError([f"version {rules.version} is not higher than {old.version}, which is in force"])
    door = load().door.name
    if door not in rules.doors:
        raise RulesError(
            [f"there is no door {door}, which is this unit's; they are {', '.join(rules.doors)}"]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, plain_bytes(file), 0o644)
    try:
        with _history():
            told = "they are in force when the unit starts"
    except HistoryBusyError:
        _order(Order(Action.ADOPT_RULES))
        told = "they are in force"
    return f"Rules {rules.version}: {told}."


def _known(uid: str) -> bool:
    """Whether somebody of this id is enrolled here or named by the rules in force."""
    settings = load()
    if uid in rules_of(state_dir(), settings.door.name).people:
        return True
    with open_store(state_dir(), settings.store) as store:
        return uid in store.vault.uids()


def _order(order: Order) -> None:
    """Ask the running unit, and wait until it has obeyed."""
    await_done(post(StateFolder(state_dir()).orders, order))


@policy.command("start-over")
@click.confirmation_option(prompt="Forget every failure, position and lock-down of this unit?")
def start_over() -> None:
    """Begin an empty memory of attempts, after finding out why the old one was refused.

    The unit must be stopped.

    \b
    Example: ostiary policy start-over
    """
    with open_store(state_dir(), load().store) as store:
        counter = store.keystore.counter("attempts")
        opened_s = system_clock().monotonic_s
        History.start_over(StateFolder(state_dir()).history, counter, store.mac, opened_s=opened_s).close()
        remove_memory(StateFolder(state_dir()).replay_memory)
    click.echo("The unit starts with an empty memory of attempts and of what it heard.")


@contextmanager
def _history() -> Iterator[History]:
    with open_store(state_dir(), load().store) as store, closing(open_history(store, state_dir())) as history:
        yield history
