"""Enrolling and forgetting: the vault changes, and the log says so before and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from device.access.memory.history import History, HistoryBusyError, HistoryError
from device.access.recollection import forget_habit
from device.audio import QualityError, load_utterance
from device.clock import system_clock
from device.errors import DeviceError
from device.evidence.judge import Judge
from device.secure_store import Consent, DeletionReceipt, Store, StoreSettings, Template
from device.settings import Settings, state_dir
from device.unit.assembly import HISTORY_FILE
from device.unit.notes import note_person
from device.uplink.orders import ORDERS_FOLDER, Action, Order, await_done, post

log = logging.getLogger(__name__)


class EnrolmentError(DeviceError):
    """A recording cannot be judged, so nobody was enrolled."""


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


def forget_noted(store: Store, settings: Settings, uid: str) -> DeletionReceipt:
    """Erase a person, and say so in the log before and after.

    Killed anywhere, it can be asked for again, or everything is gone and only the second event is missing.
    """
    note = partial(_note, store, settings, reason="on_request", uid=uid)
    note("ERASURE_BEGUN", count=0, record=store.vault.record_id(uid))
    forget_attempts(store, state_dir(), uid)
    forget_habit(state_dir(), store.mac, uid)  # first: who is not enrolled any more cannot be asked for again
    receipt = store.vault.forget(uid)
    note("FORGOTTEN", count=receipt.counter, record=receipt.record_id)
    return receipt


def forget_attempts(store: Store, state: Path, uid: str) -> None:
    """Erase failures and position of a person, also in the memory of a running door.

    Raises OrderError when that does not obey. A history that cannot be read keeps nobody enrolled: it is
    enciphered, and `ostiary policy start-over` empties it.
    """
    try:
        history = History(
            state / HISTORY_FILE,
            store.keystore.counter("attempts"),
            store.mac,
            opened_s=system_clock().monotonic_s,
            never_used=store.never_used("attempts"),
        )
    except HistoryBusyError:
        await_done(post(state / ORDERS_FOLDER, Order(Action.FORGET, uid)))
    except HistoryError as err:
        log.warning("what is remembered of attempts could not be erased: %s", err)
    else:
        with closing(history):
            history.forget(uid)


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
