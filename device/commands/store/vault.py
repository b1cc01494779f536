"""`ostiary store successor`, `status`, `init`, `rotate`, `renew`, `purge`: the vault and its people."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import click

from device.clock import system_clock
from device.commands.people import PERSON
from device.commands.store.group import JSON, opened_store, options, state_folder, store, store_settings
from device.errors import DeviceError
from device.secure_store.errors import StoreError
from device.secure_store.settings import StoreSettings
from device.secure_store.store import Store, open_store
from device.settings import load, models_dir
from device.state_folder import StateFolder
from sync.plain_words import what_and_why

log = logging.getLogger(__name__)


@store.command("successor")
@options
@JSON
def successor(state: Path | None, config: Path | None, as_json: bool) -> None:
    """List who has come over to the newer of two speaker models, and who still needs the older one.

    People come over by their own granted attempts, on three days; then both models decide, until the person
    enrols in person by the newer. Exit code 1 while somebody has not come over.

    Example: ostiary store successor
    """
    from device.model_store import slots
    from device.models.second_speaker import BEFORE, NEXT

    manifest = slots.active(models_dir()).manifest
    roles = {entry.role for entry in manifest.files}
    if not roles & {BEFORE, NEXT}:
        raise StoreError("the models of this unit have one speaker model, and none that it follows")
    model = manifest.entry(NEXT if NEXT in roles else "speaker").version
    with opened_store(state, config) as opened:
        growth = opened.vault.growth(model)
        enrolled = {one.uid: one.model for one in opened.vault.enrolments()}
    late = {uid: days for uid, days in growth.items() if days is not None}
    both = sorted(uid for uid in growth if uid not in late and enrolled.get(uid) != model)
    if as_json:
        told = {"model": model, "people": growth, "by_both": both, "to_enrol": sorted(late)}
        click.echo(json.dumps(told))
    else:
        click.echo(
            f"{model}: {len(growth) - len(late)} of {len(growth)} people have come over, {len(both)} of them "
            "are decided by both models until they enrol in person"
        )
        for uid, days in sorted(late.items()):
            click.echo(f"  {uid}  heard on {days} of 3 days")
    if late:
        raise click.exceptions.Exit(1)


@store.command("followed")
@options
@click.option("--drop", metavar="UID", type=PERSON, help="Drop what this person's voiceprint follows.")
@click.option("--drop-all", is_flag=True, help="Drop what everybody's voiceprint follows.")
@JSON
def followed(
    state: Path | None, config: Path | None, drop: str | None, drop_all: bool, as_json: bool
) -> None:
    """List whose voiceprint follows what this unit's door heard of them, and from which days; or drop it.

    The enrolled voiceprint stays as it is. `[judge] voices_follow = false` in the settings, or
    `voices_follow = false` in a risk class of the rules, ends it for good. While a unit runs, it is dropped
    under it.

    Example: ostiary store followed --drop 4711
    """
    with opened_store(state, config) as opened:
        count = 0
        if drop is not None or drop_all:
            from device.unit.assembly import open_trail  # loads the models' libraries: seconds
            from device.unit.succession.following import dropped

            settings = load(config)
            uids = list(opened.vault.followed()) if drop is None else [drop]
            with open_trail(opened, settings, state_folder(state)) as trail:
                count = dropped(opened.vault, trail, settings.door.name, uids, "operator")
        days = {
            uid: [f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}" for day in found]
            for uid, found in opened.vault.followed().items()
        }
    if as_json:
        click.echo(json.dumps({"dropped": count, "people": days}))
        return
    if drop is not None or drop_all:
        click.echo(f"dropped for {count} people; their enrolled voiceprints are as they were")
    click.echo(f"{len(days)} voiceprints follow their owner")
    for uid, found in sorted(days.items()):
        click.echo(f"  {uid}  {', '.join(found)}")


@store.command()
@options
@JSON
def status(state: Path | None, config: Path | None, as_json: bool) -> None:
    """Show whether vault and TPM are well, with their figures. Exit code 1 when something is wrong.

    Example: ostiary store status
    """
    with opened_store(state, config) as opened:
        found = opened.status()
    well = found.keystore.ready and not found.vault.damaged
    facts = {
        "unit": str(found.vault.unit),
        "people": found.vault.people,
        "vault counter": found.vault.counter,
        "key epoch": found.vault.epoch,
        "damaged records": [str(i) for i in found.vault.damaged],
        "repaired records": [str(i) for i in found.vault.repaired],
        "notes": list(found.vault.notes),
        "keystore": found.keystore.kind,
        "keystore state": found.keystore.state,
        "warning": found.warning,
        "memory locked": found.memory_locked,
        **found.keystore.facts,
    }
    if as_json:
        click.echo(json.dumps({"ok": well, **facts}))
    else:
        for name, value in facts.items():
            if value not in (None, []):
                click.echo(f"{name:>26}  {', '.join(value) if isinstance(value, list) else value}")
    if not well:
        raise click.exceptions.Exit(1)


@store.command()
@options
@click.option("--replace", is_flag=True, help="Destroy the present store: everybody has to enrol again.")
@click.confirmation_option(prompt="Make a store here?")
def init(state: Path | None, config: Path | None, replace: bool) -> None:
    """Make an empty store, or with --replace destroy the one that is here and begin again.

    Example: ostiary store init --replace --yes
    """
    settings, folder = store_settings(config), StateFolder(state_folder(state)).store
    if replace:
        _destroy(folder, settings)
    elif folder.exists() and any(folder.iterdir()):
        raise StoreError("there is a store here; --replace destroys it, and everybody has to enrol again")
    with open_store(state_folder(state), settings) as opened:
        click.echo(f"store of unit {opened.vault.status().unit} is ready")


@store.command()
@options
def rotate(state: Path | None, config: Path | None) -> None:
    """Make a new key over everybody's keys; the old one never opens again. Nobody has to enrol again.

    Example: ostiary store rotate
    """
    with opened_store(state, config) as opened:
        epoch = opened.vault.rotate()
        click.echo(f"{opened.vault.status().people} people are under key epoch {epoch}")


@store.command()
@options
@click.argument("uid", type=PERSON)
def renew(state: Path | None, config: Path | None, uid: str) -> None:
    """Give the voiceprint of UID a new key and a new rotation. Nobody has to enrol again.

    For a voiceprint that may have leaked: what was taken of it cannot be matched with the new record.

    Example: ostiary store renew 4711
    """
    with opened_store(state, config) as opened:
        opened.vault.renew(uid)
    click.echo(f"{uid} has a new key and a new rotation")


@store.command()
@options
@click.option("--clock-is-right", is_flag=True, help="Erase them all: you have looked at this clock.")
@JSON
def purge(state: Path | None, config: Path | None, clock_is_right: bool, as_json: bool) -> None:
    """Forget people whose consent ran out; prints the signed deletion receipts with --json.

    Erasing is for ever and clocks err: without --clock-is-right at most a tenth of the people go at once, and
    one at least. The running unit does the same once a day.

    Example: ostiary store purge --json
    """
    with opened_store(state, config) as opened:
        before = opened.vault.uids()
        receipts = opened.vault.purge_expired(None if clock_is_right else max(1, len(before) // 10))
        left = opened.vault.expired()
        try:
            if receipts:
                gone = set(before) - set(opened.vault.uids())
                _follow_purge(opened, state_folder(state), config, gone, len(receipts))
        finally:  # whatever fails after the erasure: nothing else keeps its receipts
            if as_json:
                click.echo(json.dumps([r.to_bytes().hex() for r in receipts]))
            else:
                click.echo(f"{len(receipts)} people forgotten because their consent ran out")
    if left and not as_json:
        click.echo(
            f"{left} more by this clock, which says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: run it again "
            "with --clock-is-right if it is"
        )


def _follow_purge(opened: Store, state: Path, config: Path | None, gone: set[str], count: int) -> None:
    """Note the purge in the audit log, and erase what is remembered of these people's attempts."""
    from device.unit.assembly import open_trail  # loads the models' libraries: seconds
    from device.unit.enrolment import forget_attempts

    settings, remembered = load(config), list[str]()
    try:
        with open_trail(opened, settings, state) as trail:
            trail.note("CONSENT_EXPIRED", "consent_expired", settings.door.name, count=count, risk="low")
    finally:
        for uid in sorted(gone):
            try:
                forget_attempts(opened, state, uid, system_clock)
            except (DeviceError, OSError) as err:
                log.warning("%s", what_and_why(err))
                remembered.append(uid)
    if remembered:
        raise StoreError(
            "the running unit did not forget the attempts of everybody who is forgotten; stop it, then "
            f"`ostiary policy pardon` each of {', '.join(remembered)}"
        )


def _destroy(folder: Path, settings: StoreSettings) -> None:
    """Destroy the store; first the counters, without which no copy of it opens again."""
    if settings.keystore == "tpm":
        from device.secure_store.hardware.tpm_keystore import remove_counters

        remove_counters(settings)
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
