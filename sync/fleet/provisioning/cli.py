"""`ostiary fleet init`, `claim`, `serve`, `replace` and `status`: a site's authority and who is let in."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
from pathlib import Path

import click
import segno
from rich.console import Console
from rich.table import Table

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.provisioning import claims, recovery
from sync.fleet.provisioning.admission import Admission, SiteFacts
from sync.fleet.provisioning.claim import Claim, Parcel
from sync.fleet.provisioning.guard import Guard, reload_by_pid
from sync.fleet.provisioning.service import serve
from sync.fleet.provisioning.site import Site, make
from sync.fleet.provisioning.tpm.ek_certificates import load_roots
from sync.plain_words import what_and_why
from sync.registry import readmission
from sync.registry.database.membership import Looked
from sync.registry.database.store import Store
from sync.registry.fleet.status import screen
from sync.registry.reports import status
from sync.service import journal
from sync.service.command_line import ACCOUNT, AS_JSON, DATABASE, read_file, utc, wall_ms
from sync.service.service_manager import ServiceManager

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
SITE = click.option(
    "--site", "folder", required=True, type=FOLDER, envvar="OSTIARY_SITE", help="The site's folder."
)
PORT = click.IntRange(1, 65535)
LIST_SOON_MS = 7 * 86_400_000
UNSEEN_MS = 10 * 60_000


@click.command("init")
@click.argument("folder", type=FOLDER)
@click.option("--name", required=True, help="The site: first half of its units' names.")
@click.option("--host", required=True, help="What units call this machine.")
@click.option("--root-folder", required=True, type=FOLDER, help="Gets the root's key, to be taken away.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="This machine's address for units.")  # noqa: S104 - units are other machines
@click.option("--port", default=8883, show_default=True, type=PORT, help="The broker's.")
@click.option("--claims-port", default=8444, show_default=True, type=PORT, help="The claim service's.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 999), help="Of the registry.")
def init_command(
    folder: Path,
    name: str,
    host: str,
    root_folder: Path,
    listen: str,
    port: int,
    claims_port: int,
    workers: int,
) -> None:
    """Make a site: root and issuing key, keys of receipts and commands, workers' certificates, the broker.

    The root's key is needed again only for another issuing key, in ten years: take it away.

    \b
    Example:
      ostiary fleet init site --name st-mary --host mqtt.st-mary.example --root-folder /media/usb/root
    """
    site = make(
        folder.resolve(),
        root_folder.resolve(),
        name,
        host=host,
        listen=listen,
        broker_port=port,
        claims_port=claims_port,
        workers=workers,
        now=dt.datetime.now(dt.UTC),
    )
    click.echo(f"take {root_folder / 'root.key'} away and lock it up: anybody who has it can be any unit")
    click.echo(f"the broker: mosquitto -c {site.folder / 'broker' / 'mosquitto.conf'}")
    click.echo(f"the claim service: ostiary fleet serve --site {site.folder} --database ...")


@click.command("claim")
@click.argument("unit")
@SITE
@DATABASE
@click.option("--door", required=True, help="Which door it will be.")
@click.option("--tpm", help="SHA-256 of its endorsement key, where the inventory knows it.")
@click.option("--rules", type=FILE, help="Who may pass (TOML); the unit adopts it.")
@click.option("--tenant-key", type=FILE, help="The operator's pseudonym key; this site never sees it.")
@click.option("--policy", "policies", type=FILE, multiple=True, help="A signed state (may be repeated).")
@click.option(
    "--valid", default=1440, show_default=True, type=click.IntRange(1, 44_640), help="Minutes it counts."
)
@click.option("--qr", type=click.Path(path_type=Path, dir_okay=False), help="Also as a QR code (.svg, .png).")
@AS_JSON
@ACCOUNT
def claim_command(
    unit: str,
    folder: Path,
    database: str,
    door: str,
    tpm: str | None,
    rules: Path | None,
    tenant_key: Path | None,
    policies: tuple[Path, ...],
    valid: int,
    qr: Path | None,
    as_json: bool,
    account: str,
) -> None:
    """Make a claim that one unit redeems once. Anybody who has it can be that unit: hand it over like a key.

    \b
    Example:
      ostiary fleet claim st-mary/icu-2 --door pharmacy --rules rules.toml --qr icu-2.svg \\
        --site site --database sqlite:///registry.db
    """
    name, site, now = unit_id(unit), Site.open(folder), dt.datetime.now(dt.UTC)
    parcel = Parcel(
        read_file(rules) if rules else b"",
        read_file(tenant_key) if tenant_key else b"",
        tuple(map(read_file, policies)),
    )
    claim = Claim.fresh(site.host, site.claims_port, name, door, site.pin())
    claims.add_claim(
        Store.open(database, create=False),
        claim.digest(),
        name,
        door=claim.door,
        parcel=claim.seal(parcel),
        expected=_digest(tpm),
        account=account,
        now=now,
        lasts=dt.timedelta(minutes=valid),
    )
    code = segno.make(str(claim), error="m", micro=False)
    if qr is not None:
        try:
            code.save(str(qr), scale=4, border=4)
        except (OSError, ValueError) as err:
            raise SyncError(
                f"{qr} cannot be written ({what_and_why(err)}); a name that ends in .svg or .png can"
            ) from err
    expires = now + dt.timedelta(minutes=valid)
    if as_json:
        click.echo(json.dumps({"claim": str(claim), "unit": name, "expires": expires.isoformat()}))
        return
    if Console().is_terminal:
        code.terminal(compact=True)
    click.echo(str(claim))
    click.echo(f"for {name}, door {door}, once, until {expires:%Y-%m-%d %H:%M} UTC", err=True)


def _digest(text: str | None) -> str | None:
    if text is None:
        return None
    digest = text.lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise click.UsageError("a TPM is given as 64 hex digits; `ostiary provision --show-tpm` prints them")
    return digest


@click.command("serve")
@SITE
@DATABASE
@click.option("--tpm-roots", type=FOLDER, help="Certificates of trusted TPM makers (PEM, DER).")
@click.option("--broker-pid", type=click.Path(path_type=Path), help="The broker's, if not the site's.")
def serve_command(folder: Path, database: str, tpm_roots: Path | None, broker_pid: Path | None) -> None:
    """Let units redeem claims and renew certificates, and take revoked ones off the broker. On its machine.

    \b
    Example:
      ostiary fleet serve --site site --database sqlite:///registry.db
    """
    journal.set_up(logging.INFO, "%(asctime)s %(levelname)s %(message)s")

    def now() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    site, store, manager = Site.open(folder), Store.open(database, create=False), ServiceManager()
    facts = SiteFacts(
        site.broker, site.public_key("receipts"), site.public_key("commands"), tuple(load_roots(tpm_roots))
    )
    authority = site.authority(now())
    pid_file = broker_pid or site.folder / "broker" / "mosquitto.pid"
    guard = Guard(site, store, authority, reload_by_pid(pid_file), now)
    try:
        serve(
            site,
            Admission(store, authority, facts, now),
            guard,
            manager,
            lambda: manager.ready("waiting for units"),
        )
    finally:
        store.close()


@click.command("replace")
@click.argument("unit")
@DATABASE
@click.option("--why", required=True, help="What became of it; it is on record.")
@ACCOUNT
def replace_command(unit: str, database: str, why: str, account: str) -> None:
    """Ask for another TPM to become a unit, because the old one is broken, lost or moved.

    Another person approves. Then its certificates are revoked, its log is closed as `site/unit~1`, and a new
    claim can be made.

    \b
    Example:
      ostiary fleet replace st-mary/icu-2 --why "board burnt, ticket 812" --database sqlite:///registry.db
    """
    name = unit_id(unit)
    store = Store.open(database, create=False)
    number = readmission.ask(
        store, name, account=account, why=why, now_ms=wall_ms(), action=readmission.REPLACE
    )
    click.echo(f"request {number}; another account approves it: ostiary registry approve {number}")


@click.command("recover")
@click.argument("step", type=click.Choice(["begin", "end"]))
@click.option("--without", multiple=True, metavar="UNIT", help="Go on asking this unit; may be repeated.")
@click.option("--anyway", multiple=True, metavar="UNIT", help="End it here although people would be erased.")
@SITE
@DATABASE
@ACCOUNT
def recover_command(
    step: str, without: tuple[str, ...], anyway: tuple[str, ...], folder: Path, database: str, account: str
) -> None:
    """After the registry was put back from a backup, or made anew: ask every unit what it holds.

    `begin` before the services start: certificates that the broker's list names stay revoked, units that this
    registry does not know are recognised by certificate and TPM, and each says whom it holds. Nobody is
    erased meanwhile. `end` when every unit has said whom it holds; it refuses until then. A unit that will
    come later is left out by `--without` and erases nobody until `end` is given again; one that will never
    know better is ended by `--anyway`, and erases whom this registry does not know.

    \b
    Example:
      ostiary fleet recover begin --site site --database sqlite:///registry.db
    """
    if step == "begin" and (without or anyway):
        raise click.UsageError("--without and --anyway say what `recover end` does")
    store, now = Store.open(database, create=False), dt.datetime.now(dt.UTC)
    if step == "end":
        left, ended = (tuple(map(unit_id, names)) for names in (without, anyway))
        asked = recovery.end(store, account, now, without=left, anyway=ended)
        click.echo("from now on units hold exactly the people whom this registry names")
        if asked:
            names = ", ".join(asked)
            click.echo(
                f"these units are still asked, and erase nobody: {names}; then give `recover end` again"
            )
        return
    fresh = recovery.begin(Site.open(folder), store, account, now)
    click.echo(
        f"units are asked what they hold; {fresh} revoked certificates were not known here, and stay so"
    )


@click.command("status")
@DATABASE
@AS_JSON
def status_command(database: str, as_json: bool) -> None:
    """The fleet on one screen: which TPM is which unit, who is as wanted, roll-out, receipts, open claims.

    Exit code 1 when a unit is not as wanted, a receipt is owed, a roll-out was halted, or the broker or its
    list of revoked certificates is in trouble.

    \b
    Example:
      ostiary fleet status --database sqlite:///registry.db
    """
    store, now_ms = Store.open(database, create=False), wall_ms()
    states = {unit.unit: unit.state for unit in status.unit_statuses(store, now_ms)}
    rows = [
        {
            "unit": row.unit,
            "state": states.get(row.unit, "new"),
            "trust": row.grade,
            "why": row.note,
            "tpm": row.tpm,
            "certificate_until": utc(row.expires_ms),
            "proved": utc(row.proved_ms),
        }
        for row in claims.admitted(store)
    ]
    waiting = [
        {"unit": row.unit, "door": row.door, "until": utc(row.expires_ms), "by": row.account}
        for row in claims.open_claims(store, now_ms)
    ]
    with store.reading() as db:
        looked = Looked.read(db)
    trouble, state = _trouble(looked, now_ms), screen(store, now_ms)
    if as_json:
        found = dataclasses.asdict(looked) if looked else None
        told = {"units": rows, "claims": waiting, "broker": found, "trouble": trouble}
        click.echo(json.dumps({**told, "state": state.as_dict()}))
    else:
        table = Table("unit", "state", "trust", "certificate until", "TPM")
        for row in rows:
            trust = f"{row['trust']} ({row['why']})" if row["why"] else str(row["trust"])
            table.add_row(row["unit"], row["state"], trust, row["certificate_until"], row["tpm"][:16])
        Console().print(table)
        for item in waiting:
            click.echo(f"claim for {item['unit']} ({item['door']}) by {item['by']}, until {item['until']}")
        if looked is not None:
            click.echo(
                f"{looked.revoked} certificates revoked; the list is good until {utc(looked.until_ms)}"
            )
        click.echo("\n".join(state.lines()))
        click.echo(trouble or "the broker refuses what is revoked, and takes what is good", err=bool(trouble))
    if trouble or not state.well:
        raise click.exceptions.Exit(1)


def _trouble(looked: Looked | None, now_ms: int) -> str:
    """What is wrong with revocation; '' when nothing is."""
    if looked is None:
        return "nobody looks after revocations: start ostiary fleet serve"
    if looked.trouble:
        return looked.trouble
    if now_ms - looked.checked_ms > UNSEEN_MS:
        return f"nobody has looked at the broker since {utc(looked.checked_ms)}: start ostiary fleet serve"
    if looked.until_ms - now_ms < LIST_SOON_MS:
        return f"the broker's list runs out on {utc(looked.until_ms)}: restart ostiary fleet serve"
    return ""


COMMANDS = (init_command, claim_command, serve_command, replace_command, recover_command, status_command)
