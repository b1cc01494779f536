"""`ostiary enroll` and `ostiary forget`: who the unit knows by voice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import click
import numpy as np
import numpy.typing as npt

from device.app import open_judge
from device.audio import QualityError, load_utterance
from device.clock import system_clock
from device.errors import DeviceError
from device.judge import Judge
from device.liveness.recollection import forget_habit
from device.models.floor import pinned_floor
from device.models.speaker import MIN_ENROLMENT
from device.notes import note_person
from device.secure_store import Consent, DeletionReceipt, Store, StoreSettings, Template, open_store
from device.settings import Settings, load, models_dir, state_dir


class EnrolmentError(DeviceError):
    """A recording cannot be judged, so nobody was enrolled."""


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


def enrol_noted(
    judge: Judge,
    store: Store,
    settings: Settings,
    uid: str,
    recordings: Sequence[Path],
    consent: Consent | None = None,
) -> tuple[UUID, list[str]]:
    """`enrol_recordings` by an operator: the log hears of it before the vault changes, and when it has."""
    note = partial(_note, store, settings, reason="operator", uid=uid, count=len(recordings))
    record, doubtful = enrol_recordings(
        judge, store, settings, uid, recordings, consent, lambda: note("ENROLMENT_BEGUN")
    )
    note("ENROLLED", record=record)
    return record, doubtful


def enrol_recordings(
    judge: Judge,
    store: Store,
    settings: Settings,
    uid: str,
    recordings: Sequence[Path],
    consent: Consent | None = None,
    begins: Callable[[], None] = lambda: None,
) -> tuple[UUID, list[str]]:
    """Enrol `uid`; returns the record's id and the recordings that do not sound like a live human.

    These are enrolled all the same: whoever enrols stands beside the person. Self-service must refuse them.
    `begins` is called when all have been heard and nothing has changed yet: what it writes is on the disk
    before the voiceprint is, so that no power cut enrols somebody of whom the log knows nothing.
    """
    embeddings, doubtful = embeddings_of(judge, settings, recordings)
    vector = judge.speaker.template(embeddings)
    template = Template(judge.speaker.version, vector, len(recordings))
    try:
        begins()
        record = store.vault.enrol(uid, template, consent)
    finally:
        template.wipe()
    return record, doubtful


def consent_now(settings: StoreSettings, taken_by: str) -> Consent:
    """Consent given just now, to the unit's current text, for its retention time."""
    now = datetime.now(UTC)
    until = now + timedelta(days=settings.retention_days)
    return Consent(taken_by, now, settings.consent_text_version, until)


def embeddings_of(
    judge: Judge, settings: Settings, recordings: Sequence[Path]
) -> tuple[list[npt.NDArray[np.float32]], list[str]]:
    """One unit embedding a recording, and the names of those that do not sound live.

    Raises EnrolmentError for a recording that cannot be judged.
    """
    embeddings, doubtful = [], []
    for path in recordings:
        try:
            utterance = load_utterance(path, settings.audio)
        except QualityError as err:
            named = str(err) if path.name in str(err) else f"{path.name}: {err}"
            raise EnrolmentError(named) from err
        wave = utterance.wave()
        utterance.wipe()
        embeddings.append(judge.speaker.embed(wave))
        if judge.spoof.evidence(wave).llr < 0.0:
            doubtful.append(path.name)
        wave[:] = 0.0
    return embeddings, doubtful


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


def forget_noted(store: Store, settings: Settings, uid: str) -> DeletionReceipt:
    """Erase a person, and say so in the log before and after.

    Killed anywhere, it can be asked for again, or everything is gone and only the second event is missing.
    """
    note = partial(_note, store, settings, reason="on_request", uid=uid)
    note("ERASURE_BEGUN", count=0, record=store.vault.record_id(uid))
    forget_habit(state_dir(), store.mac, uid)  # first: who is not enrolled any more cannot be asked for again
    receipt = store.vault.forget(uid)
    note("FORGOTTEN", count=receipt.counter, record=receipt.record_id)
    return receipt


def forget_record_noted(store: Store, settings: Settings, record: UUID) -> DeletionReceipt:
    """As `forget_noted`, for a record whose person nobody can tell any more."""
    note = partial(_note, store, settings, reason="on_request", uid=None)
    note("ERASURE_BEGUN", count=0, record=record)
    receipt = store.vault.forget_records([record], "asked")[0]
    note("FORGOTTEN", count=receipt.counter, record=record)
    return receipt


def _note(
    store: Store,
    settings: Settings,
    kind: str,
    reason: str,
    uid: str | None,
    count: int,
    record: UUID | None = None,
) -> None:
    note_person(store, settings, state_dir(), system_clock, kind, reason, uid=uid, record=record, count=count)
