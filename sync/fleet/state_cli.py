"""`ostiary fleet want`, `tag`, `admit`, `doors`, `forget`, `roll-out`: how units should be."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.fleet.exchange import card
from sync.fleet.provisioning.claims import proved_exchange
from sync.person_id import PersonIdError, person_id
from sync.plain_file import NETWORK_BYTES
from sync.proofs.bundle import key_from_bytes
from sync.registry.database.store import Store
from sync.registry.fleet import people, rollout, wanted
from sync.service.command_line import ACCOUNT, DATABASE, FILE, read_file, wall_ms
from sync.toml_table import toml_table

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"


@click.command("want")
@DATABASE
@ACCOUNT
@click.argument("scope")
@click.option("--rules", type=FILE, help="A rules file.")
@click.option("--threshold", "thresholds", multiple=True, metavar="NAME=LLR", help="In every risk class.")
@click.option("--software", help="The version that units should report; packages bring it.")
@click.option("--enrols/--enrols-not", default=None, help="Whether who is enrolled there is shared.")
@click.option("--nothing", "items", multiple=True, type=click.Choice(sorted(wanted.ITEMS)), help="Take away.")
def want_command(
    database: str,
    account: str,
    scope: str,
    rules: Path | None,
    thresholds: tuple[str, ...],
    software: str | None,
    enrols: bool | None,
    items: tuple[str, ...],
) -> None:
    """Say how units should be: SCOPE is all, site:NAME, zone:NAME, tag:NAME or unit:SITE/UNIT.

    The narrower scope counts. Models are rolled out in stages: `ostiary fleet roll-out`.

    \b
    Example:
      ostiary fleet want site:st-mary --rules rules.toml --threshold voice_llr=3.5 \\
        --database sqlite:///registry.db
    """
    store, now_ms = Store.open(database, create=False), wall_ms()
    made: dict[str, Any] = dict.fromkeys(items)
    if rules is not None:
        made["rules"] = _rules(store, rules)
    if thresholds:
        made["thresholds"] = dict(map(_threshold, thresholds))
    if software is not None:
        made["software"] = software
    if enrols is not None:
        made["enrols"] = enrols
    if not made:
        raise click.UsageError("say what is wanted, such as --rules FILE")
    for item, value in made.items():
        wanted.want(store, scope, item, value, account, now_ms)
    click.echo(f"{scope}: {', '.join(made)}; a worker with --fleet-key sends it")


@click.command("tag")
@DATABASE
@click.argument("unit")
@click.argument("tags", nargs=-1)
def tag_command(database: str, unit: str, tags: tuple[str, ...]) -> None:
    """Put UNIT into these zones and under these tags, in place of those before.

    \b
    Example:
      ostiary fleet tag st-mary/icu-2 zone:icu tag:canary --database sqlite:///registry.db
    """
    wanted.set_tags(Store.open(database, create=False), unit_id(unit), frozenset(tags))
    click.echo(f"{unit} is in {', '.join(sorted(tags)) or 'nothing but its site'}")


@click.command("admit")
@DATABASE
@click.argument("unit")
@click.option("--exchange-key", type=FILE, help="What `ostiary store exchange-key` printed.")
@click.option("--authority", required=True, type=FOLDER, help="Where the authority is kept.")
def admit_command(database: str, unit: str, exchange_key: Path | None, authority: Path) -> None:
    """Certify UNIT's exchange key: from now on enrolments can be sealed to it.

    `ostiary provision` does this by itself, with proof; for such a unit the key that its TPM proved is taken,
    and no other. Else take the key from the unit itself: the owner of a certified key can be sent
    voiceprints.

    \b
    Example:
      ostiary fleet admit st-mary/icu-2 --exchange-key icu-2.pem --authority pki \\
        --database sqlite:///registry.db
    """
    now, name = dt.datetime.now(dt.UTC), unit_id(unit)
    given = key_from_bytes(read_file(exchange_key)) if exchange_key is not None else None
    with Store.open(database, create=False).transaction() as db:
        proved = proved_exchange(db, name)
        key = proved or given
        if key is None:
            raise click.UsageError(f"{name} was not provisioned, so it proved no key: give --exchange-key")
        if given is not None and key != given:
            raise SyncError(f"{name} proved another exchange key when it was provisioned; that one counts")
        wanted.keep_card(db, name, card(Authority.open(authority, now), name, key, now))
    click.echo(f"enrolments can be sealed to {name}")


@click.command("doors")
@DATABASE
@ACCOUNT
@click.argument("person")
@click.argument("scopes", nargs=-1)
def doors_command(database: str, account: str, person: str, scopes: tuple[str, ...]) -> None:
    """Say at whose doors PERSON's enrolment belongs; without scopes nowhere but where it was made.

    Hours and permissions are the rules': this is where the voiceprint goes.

    \b
    Example:
      ostiary fleet doors 4711 site:st-mary zone:icu --database sqlite:///registry.db
    """
    uid = _person(person)
    people.allow(Store.open(database, create=False), uid, frozenset(scopes), account, wall_ms())
    click.echo(f"{person}: {', '.join(sorted(scopes)) or 'no other doors'}")


@click.command("forget")
@DATABASE
@ACCOUNT
@click.argument("person")
def forget_command(database: str, account: str, person: str) -> None:
    """Have every unit erase PERSON; `ostiary fleet status` lists who still owes its receipt.

    \b
    Example:
      ostiary fleet forget 4711 --database sqlite:///registry.db
    """
    people.forget(Store.open(database, create=False), _person(person), account, wall_ms())
    click.echo("every unit erases this person; offline ones when they return")


@click.command("roll-out")
@DATABASE
@ACCOUNT
@click.argument("bundle", type=FOLDER, required=False)
@click.option("--key", "key_file", type=FILE, help="Public key that signed the bundle (PEM).")
@click.option("--scope", default="all", show_default=True, help="Whose units.")
@click.option("--canary", default="tag:canary", show_default=True, help="Who gets it first.")
@click.option("--stages", default="10,50,100", show_default=True, help="Per cent of the units, then.")
@click.option("--soak", default=86_400, show_default=True, type=click.IntRange(0), help="Seconds a stage.")
@click.option(
    "--attempts",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="Attempts a stage must have seen, and had before, to be compared.",
)
@click.option("--stop", is_flag=True, help="End the present one where it stands.")
def roll_out_command(
    database: str,
    account: str,
    bundle: Path | None,
    key_file: Path | None,
    scope: str,
    canary: str,
    stages: str,
    soak: int,
    attempts: int,
    stop: bool,
) -> None:
    """Give the signed models in BUNDLE to a canary, then to more; halted when a unit or a rate says so.

    \b
    Example:
      ostiary fleet roll-out build/bundle --key release.pub.pem --database sqlite:///registry.db
    """
    store, now_ms = Store.open(database, create=False), wall_ms()
    if stop:
        ended = rollout.stop(store, account, now_ms)
        click.echo("stopped; units keep what they have" if ended else "nothing is being rolled out")
        return
    if bundle is None or key_file is None:
        raise click.UsageError("name the folder of a signed bundle and --key")
    percents = tuple(int(one) if one.strip().isdigit() else 0 for one in stages.split(","))
    value = _bundle(store, bundle, key_file)
    rollout.start(store, scope, value, canary, percents, soak, attempts, account, now_ms)
    click.echo(f"rolling out to {canary} of {scope}; `ostiary fleet status` shows how far it is")


def _person(text: str) -> str:
    """The one form of a person's id."""
    try:
        return person_id(text)
    except PersonIdError as err:
        raise click.UsageError(f"this is no person's id: {err}") from err


def _rules(store: Store, path: Path) -> dict[str, Any]:
    data = read_file(path)
    try:
        version = toml_table(data.decode("utf-8"))["version"]
    except (ValueError, KeyError) as err:
        raise SyncError(f"{path} is no rules file; `ostiary policy check` says why") from err
    with store.transaction() as db:
        part = wanted.keep_part(db, data)
    return {"part": wanted.part_value(part), "version": version}


def _bundle(store: Store, folder: Path, key_file: Path) -> dict[str, Any]:
    manifest, signature = read_file(folder / MANIFEST), read_file(folder / SIGNATURE)
    try:
        key = load_pem_public_key(read_file(key_file))
        names = [str(entry["name"]) for entry in json.loads(manifest)["files"]]
    except (ValueError, KeyError, TypeError) as err:
        raise SyncError(f"{folder} or {key_file} cannot be read; `ostiary models verify` says why") from err
    if not isinstance(key, Ed25519PublicKey):
        raise SyncError("give --key the Ed25519 key of the bundle, in PEM")
    with store.transaction() as db:
        part = wanted.keep_part(db, manifest)
        for name in names:
            wanted.keep_part(db, read_file(folder / Path(name).name, NETWORK_BYTES))
    return {
        "manifest": wanted.part_value(part),
        "signature": signature.hex(),
        "key": key.public_bytes_raw().hex(),
    }


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as err:
        raise click.UsageError("a threshold is given as NAME=LLR") from err


STATE_COMMANDS = (
    admit_command,
    doors_command,
    forget_command,
    roll_out_command,
    tag_command,
    want_command,
)
