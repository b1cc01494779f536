"""`ostiary enroll` and `ostiary forget`: who the unit knows by voice."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import click

from device.clock import system_clock
from device.model_store.floor import pinned_floor
from device.models.speaker import MIN_ENROLMENT
from device.secure_store import open_store
from device.settings import load, models_dir, state_dir
from device.unit.assembly import open_judge
from device.unit.enrolment import consent_now, enrol_noted, forget_noted, forget_record_noted
from device.unit.rehearse import check_clock

AUDIO = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("uid")
@click.argument("recordings", nargs=-1, type=AUDIO, required=True)
@click.option(
    "--consent-to",
    metavar="ADMIN",
    help="Who took the consent; production needs it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a sentence.")
def enroll(uid: str, recordings: tuple[Path, ...], consent_to: str | None, as_json: bool) -> None:
    """Enrol UID from three or more recordings of that person, in place of an earlier enrolment.

    The recordings are read, never kept. Consent holds for `[store] retention_days` and to the text named by
    `[store] consent_text_version`; after that the voiceprint is refused, and `ostiary store purge` erases it.

    \b
    Example: ostiary enroll 4711 a.wav b.wav c.wav
    """
    if len(recordings) < MIN_ENROLMENT:
        raise click.UsageError(f"an enrolment takes at least {MIN_ENROLMENT} recordings of the person")
    settings = load()
    with (
        open_store(state_dir(), settings.store) as store,
        open_judge(models_dir(), settings, pinned_floor(store.vault)) as judge,
    ):
        check_clock(store, state_dir(), system_clock)
        consent = None if consent_to is None else consent_now(settings.store, consent_to)
        record, doubtful = enrol_noted(judge, store, settings, uid, recordings, consent)
        version = judge.speaker.version
    if as_json:
        click.echo(
            json.dumps(
                {"record": str(record), "recordings": len(recordings), "model": version, "doubtful": doubtful}
            )
        )
        return
    click.echo(f"Enrolled from {len(recordings)} recordings (record {record}).")
    for name in doubtful:
        click.echo(f"{name} does not sound like a live human; record it again if you did not hear it said.")


@click.command()
@click.argument("uid", required=False)
@click.option("--record", type=click.UUID, help="By record instead, as `ostiary store status` names them.")
@click.option("--json", "as_json", is_flag=True, help="The signed deletion receipt as JSON.")
def forget(uid: str | None, record: UUID | None, as_json: bool) -> None:
    """Erase the voiceprint of UID by destroying its key; prints the signed receipt's facts.

    A record that is damaged beyond reading its person's id can be erased by its number.

    \b
    Example: ostiary forget 4711
    """
    if (uid is None) == (record is None):
        raise click.UsageError("name one person's id, or one --record")
    settings = load()
    with open_store(state_dir(), settings.store) as store:
        if record is not None:
            receipt = forget_record_noted(store, settings, record)
        else:
            receipt = forget_noted(store, settings, uid or "")
    if as_json:
        click.echo(
            json.dumps(
                {
                    "record": str(receipt.record_id),
                    "forgotten_at": receipt.forgotten_at.isoformat(),
                    "receipt": receipt.to_bytes().hex(),
                }
            )
        )
    else:
        click.echo(f"Forgotten: record {receipt.record_id} at {receipt.forgotten_at:%Y-%m-%d %H:%M:%S} UTC.")
