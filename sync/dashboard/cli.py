"""`ostiary dashboard`: the web page, its first administrator, its doors and names, and data to look at."""

from __future__ import annotations

import dataclasses
import datetime as dt
import getpass
import json
import logging
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from sync.dashboard.accounts import approvals
from sync.dashboard.accounts import journal as journals
from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.accounts.passkeys import Passkeys
from sync.dashboard.accounts.rights import ROLES
from sync.dashboard.accounts.sessions import Sessions
from sync.dashboard.errors import DashboardError
from sync.dashboard.insight import calibration, counted
from sync.dashboard.migrations import analyse, prepare
from sync.dashboard.records.reports import Reports
from sync.dashboard.settings import DashboardSettings, time_zone
from sync.dashboard.site import places
from sync.dashboard.site.names import NameBook, read_csv
from sync.keys import FileSigner
from sync.registry.database.store import Store
from sync.registry.sinks import Email, load_sinks
from sync.service.command_line import DATABASE, FILE, wall_ms
from sync.service.terminated import Terminated, stop_event

ORIGIN = click.option(
    "--address", default="http://127.0.0.1:8080", show_default=True, envvar="OSTIARY_DASHBOARD",
    help="What people type: https://HOST[:PORT].",
)  # fmt: skip


@click.group()
def dashboard() -> None:
    """The web page for the security desk, facilities and auditors."""


@dashboard.command("serve")
@DATABASE
@ORIGIN
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, when a proxy stands in front.")
@click.option("--cert", type=FILE, help="The page's certificate (PEM), without a proxy.")
@click.option("--key", type=FILE, help="Its private key (PEM).")
@click.option("--proxy", metavar="ADDRESS", help="The proxy whose X-Forwarded-For is believed.")
@click.option("--time-zone", "zone", default="UTC", show_default=True, help="Of every time on the page.")
@click.option("--organisation", default="Ostiary", show_default=True, help="Named at the top of every page.")
@click.option("--names-key", type=FILE, help="Opens people's names; made on first use. Without it: none.")
@click.option(
    "--signing-key", type=FILE, help="Signs lock-downs (PEM). Without it this page commands nothing."
)
@click.option(
    "--reports", "report_file", type=FILE, help="Mails yesterday's numbers at six (its email sinks)."
)
@click.option("--oidc", type=FILE, help="The site's identity provider (TOML), for single sign-on.")
def serve_command(
    database: str,
    address: str,
    listen: str | None,
    cert: Path | None,
    key: Path | None,
    proxy: str | None,
    zone: str,
    organisation: str,
    names_key: Path | None,
    signing_key: Path | None,
    report_file: Path | None,
    oidc: Path | None,
) -> None:
    """Serve the page. Run as many as you like behind one proxy; they share everything through the database.

    \b
    Example:
      ostiary dashboard serve --database sqlite:///registry.db
      ostiary dashboard serve --database postgresql://registry@db/registry \\
        --address https://doors.st-mary.example --cert page.pem --key page.key --time-zone Europe/Rome
    """
    from sync.dashboard.accounts.oidc import SingleSignOn, read_provider
    from sync.dashboard.serve import default_port, serve  # the other commands need no web server
    from sync.dashboard.web import Backend

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    if (cert is None) != (key is None):
        raise click.UsageError("give --cert and --key together")
    settings = DashboardSettings(address, time_zone(zone), organisation)
    if settings.secure and cert is None and listen is None:
        raise click.UsageError("an https address needs --cert and --key, or --listen behind a proxy")
    store = Store.open(database, create=False)
    prepare(store)
    accounts = Accounts(store)
    names = NameBook.open(store, names_key) if names_key else None
    signer = FileSigner.load(signing_key) if signing_key else None
    passkeys = Passkeys(store, settings)
    mails = [sink for sink in load_sinks(report_file) if isinstance(sink, Email)] if report_file else []
    if report_file and not mails:
        raise click.UsageError(f"{report_file.name} has no sink of type email")
    reports = Reports(store, settings, mails) if mails else None
    sign_on = SingleSignOn(store, settings, accounts, read_provider(oidc)) if oidc else None
    backend = Backend(
        store, settings, accounts, Sessions(store), wall_ms, passkeys, names, signer, reports, sign_on
    )
    host, port = _listen(listen, settings, default_port(address))

    def started() -> None:
        click.echo(f"The dashboard is at {settings.origin}", err=True)
        if not accounts.has_admin():
            click.echo(
                f"Nobody may log in yet. The first administrator opens: {_link(accounts, settings)}", err=True
            )

    terminated = Terminated.heeded()
    try:
        serve(
            backend,
            host=host,
            port=port,
            certificate=(cert, key) if cert and key else None,
            proxy=proxy,
            started=started,
            terminated=terminated,
        )
    except KeyboardInterrupt:
        pass
    finally:
        store.close()


@dashboard.command("admin-link")
@DATABASE
@ORIGIN
@click.option("--role", default="admin", show_default=True, type=click.Choice(sorted(ROLES)))
@click.option("--account", help="Whose link it is; a link without a name lets its reader choose one.")
@click.option(
    "--tag", "tags", multiple=True, metavar="SITE[/ZONE]", help="Limits what it sees (may be repeated)."
)
def admin_link_command(
    database: str, address: str, role: str, account: str | None, tags: tuple[str, ...]
) -> None:
    """Print a link, good once and for a day, that makes an account, or gives one a new password.

    \b
    Example:
      ostiary dashboard admin-link --database sqlite:///registry.db
    """
    store = _open(database)
    settings = DashboardSettings(address)
    token = Accounts(store).invite(role, tags, _console(), wall_ms(), account=account)
    click.echo(f"{settings.origin}/welcome/{token}")


@dashboard.command("doors")
@DATABASE
@click.argument("file", type=FILE)
def doors_command(database: str, file: Path) -> None:
    """Say what the doors are called, where they are, how they lock, and what their rules ask for.

    \b
    Example:
      ostiary dashboard doors doors.toml --database sqlite:///registry.db

    \b
    In doors.toml:
      [zones.icu]
      label = "Intensive care"
      [doors."st-mary/icu-2/door-1"]
      label = "Intensive care, main door"
      zone = "icu"
      locking = "access"          # delayed, access, elevator, clinical, special (NFPA 101)
      egress = ["motion_sensor", "exit_button", "fire_release", "power_release"]
      thresholds = { phrase_llr = 2.0, voice_llr = 3.0, live_llr = 0.0 }
    """
    found = places.read(file)
    store, account = _open(database), _console()
    with store.transaction() as db:
        less = approvals.lowered(places.load(db), found)
        if not less:
            places.replace_in(db, found)
            journals.append(db, account, "doors", file.name, wall_ms(), rows=len(found))
    if less:
        about = {"doors": less, "places": [dataclasses.asdict(place) for place in found]}
        number = approvals.ask(store, approvals.THRESHOLDS, about, file.name, account, wall_ms())
        click.echo(
            f"lower thresholds at {', '.join(less)}: nothing has changed. Request {number} waits "
            "for a second person on the page"
        )
        raise click.exceptions.Exit(1)
    click.echo(f"{len(found)} doors have names now")


@dashboard.command("names")
@DATABASE
@click.argument("file", type=FILE)
@click.option("--names-key", required=True, type=FILE, help="Closes the names; made on first use.")
def names_command(database: str, file: Path, names_key: Path) -> None:
    """Bring the names of people (CSV with the columns person and name); kept encrypted, opened on record.

    \b
    Example:
      ostiary dashboard names people.csv --names-key names.key --database sqlite:///registry.db
    """
    found = read_csv(file)
    store = _open(database)
    book = NameBook.open(store, names_key)
    with store.transaction() as db:
        changed = book.keep_in(db, found, wall_ms())
        journals.append(db, _console(), "names", file.name, wall_ms(), rows=changed)
    click.echo(f"{changed} of {len(found)} names are new")


@dashboard.command("calibration")
@DATABASE
@click.argument("file", type=FILE)
def calibration_command(database: str, file: Path) -> None:
    """Bring in the report of `ostiary evaluate`: the page compares each door's scores with it.

    \b
    Example:
      ostiary dashboard calibration evaluation/report.json --database sqlite:///registry.db
    """
    shapes, source = calibration.read_report(file)
    store = _open(database)
    with store.transaction() as db:
        calibration.keep_in(db, shapes, source, wall_ms())
        journals.append(db, _console(), "calibration", source, wall_ms(), rows=len(shapes))
    click.echo(f"{len(shapes)} checks are compared with {source}")


@dashboard.command("journal")
@DATABASE
@click.option("--head", help="A chain hash from an earlier day (hex): the journal must still contain it.")
def journal_command(database: str, head: str | None) -> None:
    """Check the record of who looked at what. Exit code 1 when it was edited, or does not contain --head.

    \b
    Example:
      ostiary dashboard journal --database sqlite:///registry.db
    """
    store = _open(database)
    try:
        number, link = journals.check(store)
        if head is not None and not journals.contains(store, head):
            raise DashboardError("the journal does not contain that hash: it was rewritten, or cut off")
    except DashboardError as err:
        click.echo(f"NOT SOUND  {err}")
        raise click.exceptions.Exit(1) from err
    click.echo(json.dumps({"entries": number, "head": link.hex()}))


@dashboard.command("demo-data")
@DATABASE
@click.option("--doors", default=40, show_default=True, type=click.IntRange(1, 2000))
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3660))
@click.option("--per-day", default=12.0, show_default=True, type=float, help="Attempts a door and day.")
@click.option("--seed", default=1, show_default=True, type=int)
@click.option("--names-key", type=FILE, help="Gives the people names, closed with this key.")
@click.option("--password", help="Makes an account for each role, all with this password.")
@click.option("--live", is_flag=True, help="Go on until stopped: people pass, units report.")
@click.option("--signing-key", type=FILE, help="Whose orders the invented units obey while they live.")
def demo_data_command(
    database: str,
    doors: int,
    days: int,
    per_day: float,
    seed: int,
    names_key: Path | None,
    password: str | None,
    live: bool,
    signing_key: Path | None,
) -> None:
    """Fill an empty database with a hospital that does not exist: forty doors and a year, really signed.

    \b
    Example:
      ostiary dashboard demo-data --database sqlite:///demo.db --names-key demo.names \\
        --password "a demo password"
      ostiary dashboard serve --database sqlite:///demo.db --names-key demo.names
    """
    from sync.dashboard.demo import demo_records
    from sync.dashboard.demo.demo_data import DemoData
    from sync.dashboard.demo.demo_events import DemoSize

    store = _open(database, create=True)
    if store.public_keys():
        raise DashboardError("this registry has units already; demonstration data goes into an empty one")
    names = NameBook.open(store, names_key) if names_key is not None else None
    signer = FileSigner.load_or_create(signing_key) if signing_key is not None else None
    data = DemoData(store, wall_ms(), DemoSize(doors=doors, days=days, per_day=per_day), seed)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("days", total=days + 1)
        stored = data.make(lambda more: bar.update(task, advance=more))
    analyse(store)
    counted.count_due(store, dt.UTC, wall_ms())
    if names is not None:
        data.name_people(names)
    for role in ROLES if password else ():
        accounts, now_ms = Accounts(store), wall_ms()
        accounts.accept(accounts.invite(role, (), "console", now_ms), role, password or "", now_ms)
    if password and signer is not None:
        demo_records.fill(store, signer, data, wall_ms())
    click.echo(f"{stored} events of {doors} doors are in the registry")
    if password:
        click.echo(f"accounts: {', '.join(ROLES)}")
    if live:
        key = signer.public_key() if signer is not None else None
        click.echo("people go on passing until you press Ctrl-C", err=True)
        stop = stop_event()
        data.live(stop, wall_ms, key)


def _console() -> str:
    """The account of a person at the command line, in the journal."""
    return f"console:{getpass.getuser()}"


def _open(database: str, create: bool = False) -> Store:
    store = Store.open(database, create=create)
    prepare(store)
    return store


def _link(accounts: Accounts, settings: DashboardSettings) -> str:
    return f"{settings.origin}/welcome/{accounts.invite('admin', (), 'console', wall_ms())}"


def _listen(listen: str | None, settings: DashboardSettings, port: int) -> tuple[str, int]:
    if listen is None:
        host = settings.host.rpartition(":")[0] if ":" in settings.host else settings.host
        return (host.strip("[]") if not settings.secure else "0.0.0.0"), port  # noqa: S104 - with TLS
    host, _, number = listen.rpartition(":")
    if not host or not number.isdigit() or not 0 < int(number) < 65536:
        raise click.UsageError("--listen is given as HOST:PORT")
    return host.strip("[]"), int(number)
