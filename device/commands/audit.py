"""`ostiary audit` on a unit: export its log, move it to files, or begin a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from device.clock import system_clock
from device.errors import DeviceError
from device.secure_store import Store, open_store
from device.secure_store.voiceprints.vault_file import write_durably
from device.settings import Settings, load, state_dir
from device.state_folder import StateFolder
from device.unit.assembly import open_log, rules_of
from device.unit.audit import AuditTrail, EventContext
from device.uplink import archive
from sync.outbox import Outbox
from sync.proofs.audit_cli import audit

__all__ = ["audit"]


@audit.command("export")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="File to write.")
def export_command(out: Path) -> None:
    """On the unit: write what its log still holds to a bundle, signed up to now. Nothing leaves the log.

    \b
    Example:
      ostiary audit export -o icu-2.bundle
    """
    with _opened() as (store, _, log):
        log.seal(store.audit_signer)
        held = log.held()
        if held is None:
            raise DeviceError("this unit's log holds no event yet; it begins with the first attempt")
        write_durably(out, archive.bundle(held, store.audit_signer).to_bytes())
    later = f" --from {held.first}" if held.first > 1 else ""
    click.echo(
        f"events {held.first} to {held.last} are in {out}; check it: ostiary audit verify {out}{later}"
    )


@audit.command("rotate")
def rotate_command() -> None:
    """On a unit without a registry: move its log to files that `ostiary audit verify` proves.

    A unit whose settings say `[audit] standalone = true` does this by itself. Works while it runs. Events
    that were moved are not sent any more if the unit gets a registry later: hand its auditor the files. A
    file is named by its first and last event; to verify one that begins later than with event 1, say --from.

    \b
    Example:
      ostiary audit rotate
    """
    with _opened() as (store, settings, log):
        folder = settings.audit.archive or StateFolder(state_dir()).audit_archive
        made = archive.rotate(log, store.audit_signer, folder, settings.audit.keep_bytes())
    for path in made:
        click.echo(path)
    if not made:
        click.echo("This unit's log holds no event that was not moved or sent before.")


@audit.command("start-over")
@click.confirmation_option(prompt="Begin a new audit log? A registry will report that the old one broke off.")
def start_over_command() -> None:
    """Begin a new log after finding out why the old one is gone or was put back. The unit must be stopped.

    What is left of the old one stays beside it. The new log begins at event 1, under the same key: a registry
    that knows the old one raises an alarm and takes the new one only after the unit was registered again.

    \b
    Example:
      ostiary audit start-over
    """
    settings, path = load(), StateFolder(state_dir()).audit_log
    with open_store(state_dir(), settings.store) as store:
        aside = path.with_name(f"{path.name}.{system_clock().wall:%Y%m%dT%H%M%SZ}")
        for suffix in ("", "-wal", "-shm"):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.replace(aside.with_name(aside.name + suffix))
        counter = store.keystore.counter("audit")
        rules = rules_of(state_dir(), settings.door.name)
        with open_log(settings, state_dir(), rules, system_clock, counter, counter.value()) as log:
            context = EventContext.of(store, 0, system_clock())
            trail = AuditTrail(log, context, lambda: rules, system_clock, other_process=True)
            trail.note("FAULT", "operator", settings.door.name)
    click.echo(f"A new log begins; what was left of the old one is in {aside.name}, beside it.")


@contextmanager
def _opened() -> Iterator[tuple[Store, Settings, Outbox]]:
    settings = load()
    if not StateFolder(state_dir()).audit_log.exists():
        raise DeviceError("this unit has no audit log yet; it begins when `ostiary run` starts")
    rules = rules_of(state_dir(), settings.door.name)
    with (
        open_store(state_dir(), settings.store) as store,
        open_log(settings, state_dir(), rules, system_clock) as log,
    ):
        yield store, settings, log
