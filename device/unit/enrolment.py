"""Enrols and forgets people, with an event in the log before and after each change of the vault."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from device.access.claims import Directory
from device.access.memory.history import HistoryBusyError, HistoryError
from device.access.policy import Thresholds
from device.audio import QualityError, load_utterance
from device.clock import Clock, Now, system_clock
from device.errors import DeviceError
from device.evidence.enrolled import Voices, Worth
from device.evidence.judge import Judge
from device.evidence.phrase import normalise
from device.evidence.voice.copies import MADE
from device.models.features import WaveError
from device.models.speaker import InconsistentEnrolmentError
from device.secure_store import (
    Consent,
    ConsentError,
    DeletionReceipt,
    DoorVector,
    Store,
    StoreSettings,
    Template,
)
from device.secure_store.voiceprints.records import check_uid
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools, open_history, open_trail, readable_rules
from device.unit.repeats import repeated
from device.uplink.orders import Action, Order, await_done, post

log = logging.getLogger(__name__)

Recordings = Mapping[str, Path | bytes]
"""Of one person, by the names that messages use."""


class EnrolmentError(DeviceError):
    """Nobody was enrolled.

    `code` is that of the recording's error, or NOT_LIVE, VOICES_DIFFER, SAME_RECORDING, ID_TAKEN or CONSENT;
    `spoof_llrs` are those of the recordings that were heard.
    """

    exit_code = 1

    def __init__(self, code: str, text: str, spoof_llrs: Sequence[float] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.spoof_llrs = tuple(spoof_llrs)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The outcome. `doubtful` names the recordings that do not sound like a live human."""

    record: UUID
    spoof_llrs: tuple[float, ...]
    doubtful: tuple[str, ...]
    worth: Worth


def named(paths: Sequence[Path]) -> Recordings:
    """Files under their own names; two of one name under their paths. Raises EnrolmentError for one twice."""
    names = [path.name for path in paths]
    twice = next((str(path) for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise EnrolmentError("SAME_RECORDING", f"{twice} is named twice; record the person again for each")
    return {path.name if names.count(path.name) == 1 else str(path): path for path in paths}


def enrol(
    tools: Tools,
    uid: str,
    recordings: Recordings,
    *,
    reason: str,
    consent_to: str | None = None,
    must_sound_live: bool = False,
    begins: Callable[[], None] = lambda: None,
    heard: Callable[[int], None] = lambda count: None,
) -> Enrolment:
    """Enrol `uid` in place of an earlier enrolment. Raises EnrolmentError, or DeviceError for a fault.

    An operator stands beside the person and may enrol what does not sound live; self-service must not.
    `begins` is called when all recordings have been heard and nothing has changed yet. The first event is on
    the disk before the voiceprint is: no power cut enrols somebody of whom the log knows nothing. `reason` is
    the events'; `consent_to` names who took the consent. `heard` is told how far it is (`heard_voices`).
    """
    judge, settings, store = tools.judge, tools.settings, tools.store
    uid = check_uid(uid)
    check_clock(tools)
    check_claims(tools, uid)
    with heard_voices(judge, settings, recordings, heard) as voices:
        template, doubtful = _template(judge, recordings, voices, must_sound_live)
        worth = voices.worth(judge.speaker.llr)
    spoof_llrs = voices.spoof_llrs
    consent = None if not consent_to else consent_now(settings.store, consent_to, tools.clock())
    try:
        begins()
        with tools.trail() as trail:
            note = partial(
                trail.note, reason=reason, door=settings.door.name, uid=uid, count=len(recordings), risk="low"
            )
            note("ENROLMENT_BEGUN")
            record = store.vault.enrol(uid, template, consent)
            note("ENROLLED", record=record)
    except ConsentError as err:
        raise EnrolmentError("CONSENT", str(err), spoof_llrs) from err
    finally:
        template.wipe()
    return Enrolment(record, tuple(spoof_llrs), doubtful, worth)


def _template(
    judge: Judge, recordings: Recordings, voices: Voices, must_sound_live: bool
) -> tuple[Template, tuple[str, ...]]:
    """The voiceprint, and which recordings do not sound like a live human. Raises EnrolmentError."""
    live_llr, spoof_llrs = Thresholds().live_llr, voices.spoof_llrs
    doubtful = tuple(name for name, llr in zip(recordings, spoof_llrs, strict=True) if not llr >= live_llr)
    if doubtful and must_sound_live:
        raise EnrolmentError("NOT_LIVE", f"not a live human: {', '.join(doubtful)}", spoof_llrs)
    try:
        vector = judge.speaker.template(voices.embeddings)
    except InconsistentEnrolmentError as err:
        raise EnrolmentError("VOICES_DIFFER", str(err), spoof_llrs) from err
    at_the_door = voices.door()
    door = None if at_the_door is None else DoorVector(MADE, at_the_door)
    return Template(judge.speaker.version, vector, len(recordings), door), doubtful


@contextmanager
def heard_voices(
    judge: Judge,
    settings: Settings,
    recordings: Recordings,
    heard: Callable[[int], None] = lambda count: None,
) -> Iterator[Voices]:
    """Embedding, quality and live LLR of each recording; the embeddings are overwritten afterwards.

    `heard` is told of each recording that was heard once, and again when its copies were: twice as often as
    there are recordings.

    Raises EnrolmentError for a recording that cannot be judged, and where two of them are one recording.
    """
    voices = Voices()
    spoof_llrs = voices.spoof_llrs
    waves: dict[str, npt.NDArray[np.float32]] = {}
    try:
        for name, recording in recordings.items():
            try:
                utterance = load_utterance(recording, settings.audio)
            except QualityError as err:
                text = str(err) if name in str(err) else f"{name}: {err}"
                raise EnrolmentError(err.code, text, spoof_llrs) from err
            waves[name] = utterance.wave()
            utterance.wipe()
            voices.qualities.append(utterance.quality)
            try:
                voices.embeddings.append(judge.speaker.embed(waves[name]))
                spoof_llrs.append(judge.live_llr(waves[name], utterance.quality))
            except WaveError as err:
                raise EnrolmentError("UNREADABLE", f"{name}: {err}", spoof_llrs) from err
            heard(1)
        if (same := repeated(waves)) is not None:
            text = f"{same[0]} and {same[1]} are one recording; record the person again for each"
            raise EnrolmentError("SAME_RECORDING", text, spoof_llrs)
        for wave in waves.values():
            voices.hear_copies(judge.speaker, wave)
            heard(1)
        _overwrite(waves.values())
        yield voices
    finally:
        _overwrite((*waves.values(), *voices.embeddings, *voices.copies))


def _overwrite(arrays: Iterable[npt.NDArray[np.float32]]) -> None:
    for array in arrays:
        array[...] = 0.0


def check_clock(tools: Tools) -> None:
    """Raises DeviceError when the clock would date a consent wrongly."""
    wall = tools.clock().wall
    if tools.time_seen().behind(wall):
        raise DeviceError(
            f"this unit's clock says {wall:%Y-%m-%d %H:%M} UTC, behind a time that it has seen, so no "
            "consent can be dated; set it, or, if it is right, `ostiary policy trust-clock`"
        )


def check_claims(tools: Tools, uid: str) -> None:
    """Raises EnrolmentError where a person who shows or says this id is somebody else by the rules."""
    rules = readable_rules(tools.settings, tools.state)
    owner = Directory.of(rules, normalise).badge(uid).uid if rules is not None else uid
    if owner != uid:
        raise EnrolmentError(
            "ID_TAKEN", f"{uid} is a badge of {owner} in this unit's rules; enrol them under {owner}"
        )


def consent_now(settings: StoreSettings, taken_by: str, now: Now) -> Consent:
    """Consent given just now, to the unit's current text, for its retention time."""
    until = now.wall + timedelta(days=settings.retention_days)
    return Consent(taken_by, now.wall, settings.consent_text_version, until)


def forget(
    store: Store, settings: Settings, state: Path, uid: str, clock: Clock = system_clock
) -> DeletionReceipt:
    """Erase a person, with an event in the log before and after.

    Killed anywhere, it can be asked for again, unless all is erased and only the second event is missing.
    """
    uid = check_uid(uid)
    with open_trail(store, settings, state, clock) as trail:
        note = partial(trail.note, reason="on_request", door=settings.door.name, uid=uid, risk="low")
        note("ERASURE_BEGUN", count=0, record=store.vault.record_id(uid))
        forget_attempts(store, state, uid, clock)
        receipt = store.vault.forget(uid)
        note("FORGOTTEN", count=receipt.counter, record=receipt.record_id)
    return receipt


def forget_attempts(store: Store, state: Path, uid: str, clock: Clock) -> None:
    """Erase failures and position of a person, also in the memory of a running door.

    Raises OrderError when the door does not obey. A history that cannot be read does not stop an erasure: it
    is enciphered, and `ostiary policy start-over` empties it.
    """
    try:
        history = open_history(store, state, clock)
    except HistoryBusyError:
        await_done(post(StateFolder(state).orders, Order(Action.FORGET, uid)))
    except HistoryError as err:
        log.warning("what is remembered of attempts could not be erased: %s", err)
    else:
        with closing(history):
            history.forget(uid)


def forget_record(store: Store, settings: Settings, state: Path, record: UUID) -> DeletionReceipt:
    """As `forget`, for a record that is damaged beyond reading its person's id."""
    with open_trail(store, settings, state) as trail:
        note = partial(trail.note, reason="on_request", door=settings.door.name, record=record, risk="low")
        note("ERASURE_BEGUN", count=0)
        receipt = store.vault.forget_records([record], "asked")[0]
        note("FORGOTTEN", count=receipt.counter)
    return receipt
