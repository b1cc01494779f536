"""`ostiary enroll`, `people` and `forget`: the people whose voice the unit knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
from rich.console import Console
from rich.progress import Progress

from device.access.voices import is_enrolled
from device.errors import DeviceError
from device.models.speaker import MIN_ENROLMENT
from device.secure_store import open_store
from device.settings import load, models_dir, state_dir
from device.unit import enrolment
from device.unit.assembly import open_tools
from device.unit.enrolment import enrol, forget_record, named
from device.unit.reports import enrolled_report, forgotten_report
from sync.errors import SyncError
from sync.person_id import PersonIdError, person_id
from sync.plain_words import what_and_why

AUDIO = click.Path(exists=True, dir_okay=False, path_type=Path)


class PersonId(click.ParamType[str, str]):
    """A person's id in its normal form; an empty one names nobody."""

    name = "uid"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        try:
            return person_id(value) if value else ""
        except PersonIdError as err:
            self.fail(f"`{value}` is no person's id: {err}", param, context)


PERSON = PersonId()


@contextmanager
def error_as_json(as_json: bool) -> Iterator[None]:
    """With `as_json`, print `{"error": text}` for an error inside, which is then raised again."""
    try:
        yield
    except (DeviceError, SyncError, OSError) as err:
        if as_json:
            click.echo(json.dumps({"error": what_and_why(err)}))
        raise


@click.command()
@click.argument("uid", type=PERSON)
@click.argument("recordings", nargs=-1, type=AUDIO, required=True)
@click.option("--consent-to", metavar="ADMIN", help="Who took the consent; production needs it.")
@click.option("--replace", is_flag=True, help="In place of an earlier enrolment, without a question.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a sentence.")
def enroll(
    uid: str, recordings: tuple[Path, ...], consent_to: str | None, replace: bool, as_json: bool
) -> None:
    """Enrol UID from recordings of that person: five phrases, three at least.

    Somebody who is enrolled already is replaced after a question, or by --replace.

    The recordings are read, never kept. Consent holds for `[store] retention_days` and to the text named by
    `[store] consent_text_version`; after that the voiceprint is refused, and `ostiary store purge` erases it.

    \b
    Example: ostiary enroll 4711 a.wav b.wav c.wav d.wav e.wav
    """
    if not uid:
        raise click.UsageError("UID is empty; it names the person by at least one letter or digit")
    if len(recordings) < MIN_ENROLMENT:
        raise click.UsageError(f"an enrolment takes at least {MIN_ENROLMENT} recordings of the person")
    if consent_to is not None and not consent_to.strip():
        raise click.UsageError("--consent-to names who took the consent; it is empty")
    with error_as_json(as_json), open_tools(load(), state_dir(), models_dir()) as tools:
        if is_enrolled(tools.store.vault, uid) and not replace:
            _ask_to_replace(uid)
        with _shown(len(recordings)) as heard:
            found = enrol(
                tools, uid, named(recordings), reason="operator", consent_to=consent_to, heard=heard
            )
        version = tools.judge.speaker.version
    if as_json:
        facts = {
            "record": str(found.record),
            "recordings": len(recordings),
            "model": version,
            "doubtful": found.doubtful,
            "quality_percent": found.worth.percent,
            "quality_why": found.worth.why,
        }
        click.echo(json.dumps(facts))
        return
    why = f": {found.worth.why}" if found.worth.why else ""
    click.echo(
        f"Enrolled from {len(recordings)} recordings (record {found.record}); "
        f"quality {found.worth.percent} %{why}."
    )
    if found.worth.poor:
        click.echo(
            "Record one more phrase, near the microphone and in quiet, and enrol again with all of them."
        )
    for name in found.doubtful:
        click.echo(f"{name} does not sound like a live human; record it again if you did not hear it said.")


@contextmanager
def _shown(recordings: int) -> Iterator[Callable[[int], None]]:
    """How far an enrolment is: each recording is heard as it is, then as in rooms. Nothing in a script."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("hearing the recordings", total=2 * recordings)
        yield lambda count: bar.advance(task, count)


class EnrolledAlreadyError(DeviceError):
    """Somebody is enrolled under this id, and --replace was not given."""

    exit_code = 1


def _ask_to_replace(uid: str) -> None:
    """Ask at a terminal; raises EnrolledAlreadyError without one, click.Abort at a no."""
    if not sys.stdin.isatty():
        raise EnrolledAlreadyError(
            f"{uid} is enrolled already; --replace puts this voice in place of the earlier one"
        )
    click.confirm(f"{uid} is enrolled already. Replace that voice by this one?", abort=True, err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def people(as_json: bool) -> None:
    """List who is enrolled at this unit, until when, and under which record.

    \b
    Example: ostiary people
    """
    with open_store(state_dir(), load().store) as store:
        found = store.vault.enrolments()
    now = datetime.now(UTC)
    if as_json:
        click.echo(json.dumps([{**enrolled_report(one, now), "model": one.model} for one in found]))
        return
    for one in found:
        ended = "  ended: ask again, or forget" if one.consent.expired(now) else ""
        click.echo(f"{one.uid:<20}  until {one.consent.retain_until:%Y-%m-%d}  record {one.record_id}{ended}")
    if not found:
        click.echo("Nobody is enrolled.")


@click.command()
@click.argument("uid", type=PERSON, required=False)
@click.option("--record", type=click.UUID, help="By record instead, as `ostiary store status` names them.")
@click.option("--json", "as_json", is_flag=True, help="The signed deletion receipt as JSON.")
def forget(uid: str | None, record: UUID | None, as_json: bool) -> None:
    """Erase the voiceprint of UID by destroying its key; prints the signed receipt's facts.

    A record that is damaged beyond reading its person's id can be erased by its number.

    \b
    Example: ostiary forget 4711
    """
    if bool(uid) == (record is not None):
        raise click.UsageError("name one person's id, or one --record")
    with error_as_json(as_json):
        settings = load()
        with open_store(state_dir(), settings.store) as store:
            if record is not None:
                receipt = forget_record(store, settings, state_dir(), record)
            else:
                receipt = enrolment.forget(store, settings, state_dir(), uid or "")
    if as_json:
        click.echo(json.dumps(forgotten_report(receipt)))
    else:
        click.echo(f"Forgotten: record {receipt.record_id} at {receipt.forgotten_at:%Y-%m-%d %H:%M:%S} UTC.")
