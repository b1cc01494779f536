"""`ostiary registry campaigns` and `watch-list`: who attacks us, and whom units are warned of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sync.keys import FileSigner
from sync.plain_file import write_output
from sync.proofs.bundle import key_from_bytes
from sync.registry.campaigns import known, sharing
from sync.registry.database.store import Store
from sync.service.command_line import ACCOUNT, AS_JSON, DATABASE, FILE, read_file, show, utc, wall_ms


@click.group("campaigns")
def campaigns_group() -> None:
    """Attempts that one attacker's tool seems to have made, at whichever doors."""


@campaigns_group.command("list")
@DATABASE
@click.option("--least", default=3, show_default=True, type=click.IntRange(1), help="Attempts of it.")
@AS_JSON
def list_command(database: str, least: int, as_json: bool) -> None:
    """Campaigns, the newest first.

    \b
    Example:
      ostiary registry campaigns list --database sqlite:///registry.db
    """
    found = known.found(Store.open(database, create=False), wall_ms(), least=least)
    columns: dict[str, Callable[[known.Campaign], object]] = {
        "campaign": lambda one: one.number,
        "state": lambda one: one.state,
        "attempts": lambda one: one.times,
        "units": lambda one: one.reporters,
        "last": lambda one: utc(one.last_ms),
        "likeness": lambda one: f"{one.likeness:.2f}",
        "watched": lambda one: "yes" if one.watched else "",
    }
    show(found, columns, as_json)


@campaigns_group.command("set-aside")
@DATABASE
@click.argument("campaign", type=int)
@click.option("--reason", required=True, help="Why it was no attack.")
@ACCOUNT
def set_aside_command(database: str, campaign: int, reason: str, account: str) -> None:
    """Say that a campaign was no attack: units are no longer warned of it.

    \b
    Example:
      ostiary registry campaigns set-aside 17 --reason "the fire drill" --database sqlite:///registry.db
    """
    known.set_aside(Store.open(database, create=False), campaign, reason, account, wall_ms())
    click.echo(f"campaign {campaign} is set aside")


@campaigns_group.command("share")
@DATABASE
@click.option("--signing-key", required=True, type=FILE, help="Who tells it: the receipts' key (PEM).")
@click.option("--deployment", required=True, help="Under which name others know us.")
@click.option(
    "--epsilon",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, sharing.MOST_EPSILON),
    help=f"Privacy budget of each campaign that is told; {sharing.MOST_EPSILON:g} in all.",
)
@click.option("--out", "-o", type=FILE, required=True, help="Where it goes.")
@ACCOUNT
def share_command(
    database: str, signing_key: Path, deployment: str, epsilon: float, out: Path, account: str
) -> None:
    """Tell other deployments what known campaigns are like, with noise that hides every single attempt.

    \b
    Example:
      ostiary registry campaigns share --signing-key receipts.key --deployment st-mary -o st-mary.campaigns \\
        --database sqlite:///registry.db
    """
    store, signer = Store.open(database, create=False), FileSigner.load(signing_key)
    message, spent = sharing.share(store, signer, epsilon, account, wall_ms(), deployment)
    write_output(out, message)
    for one in spent:
        alike = sharing.expected_likeness(one.noise)
        click.echo(
            f"campaign {one.campaign}: epsilon {one.epsilon:g}, delta {one.delta:g}, likeness {alike:.2f}"
        )
    click.echo(f"{len(spent)} campaigns are in {out}; what was asked is spent, also for those left out")


@campaigns_group.command("take")
@DATABASE
@click.argument("file", type=FILE)
@click.option("--key", required=True, type=FILE, help="Who tells it (public key, PEM).")
@ACCOUNT
def take_command(database: str, file: Path, key: Path, account: str) -> None:
    """Take what another deployment tells of its campaigns. Units are warned once units of ours agree.

    \b
    Example:
      ostiary registry campaigns take st-mary.campaigns --key st-mary.pem --database sqlite:///registry.db
    """
    store = Store.open(database, create=False)
    count = sharing.take_shared(store, read_file(file), key_from_bytes(read_file(key)), account, wall_ms())
    click.echo(f"{count} campaigns were taken")


@click.group("watch-list")
def watch_list_group() -> None:
    """Attackers that units are warned of until a day that a person has set, and why."""


@watch_list_group.command("list")
@DATABASE
@click.option("--all", "ended", is_flag=True, help="Also what is in force no more.")
@AS_JSON
def watched_command(database: str, ended: bool, as_json: bool) -> None:
    """The watch list, newest first.

    \b
    Example:
      ostiary registry watch-list list --database sqlite:///registry.db
    """
    found = known.watched(Store.open(database, create=False), wall_ms(), ended=ended)
    columns: dict[str, Callable[[known.Watched], object]] = {
        "line": lambda one: one.number,
        "campaign": lambda one: one.campaign,
        "reason": lambda one: one.reason,
        "by": lambda one: one.account,
        "from": lambda one: utc(one.from_ms),
        "until": lambda one: utc(one.until_ms),
        "ended by": lambda one: one.ended_by or "",
    }
    show(found, columns, as_json)


@watch_list_group.command("add")
@DATABASE
@click.argument("campaign", type=int)
@click.option("--reason", required=True, help="Why; it stays in the registry.")
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1, known.MOST_DAYS), help="Its end."
)
@ACCOUNT
def add_command(database: str, campaign: int, reason: str, days: int, account: str) -> None:
    """Put a campaign on the watch list: units are warned of it, however few have seen it.

    \b
    Example:
      ostiary registry watch-list add 17 --reason "caught at the east door" --days 90 \\
        --database sqlite:///registry.db
    """
    number = known.watch(Store.open(database, create=False), campaign, reason, days, account, wall_ms())
    click.echo(f"line {number}: campaign {campaign} is on the watch list for {days} days")


@watch_list_group.command("end")
@DATABASE
@click.argument("line", type=int)
@ACCOUNT
def end_command(database: str, line: int, account: str) -> None:
    """Take a line off the watch list; it stays on record.

    \b
    Example:
      ostiary registry watch-list end 3 --database sqlite:///registry.db
    """
    known.end_watch(Store.open(database, create=False), line, account, wall_ms())
    click.echo(f"line {line} is no longer in force")
