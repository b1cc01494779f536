"""The parts of an evaluation that make conversations: who spoke when, how soon a change is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels, open_models
from device.conversation.streams.trust import TrustSettings
from device.models.self_test import MEMORY_NAME
from quantize.evaluate.conversation.changes import ChangesResult, evaluate_changes, series
from quantize.evaluate.conversation.measure import (
    DiarizationResult,
    gallery,
    measure,
    real_recordings,
)
from quantize.evaluate.conversation.mixtures import Person, Studio, people_of
from quantize.evaluate.recordings.manifest import Recording

SEED = 2
Bar = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Conversations:
    """How many conversations and streams to make, and from what."""

    mixtures: int = 48
    streams: int = 200
    noises: Sequence[Recording] = ()
    rooms: Sequence[Recording] = ()
    real: Path | None = None
    """A folder of recordings with an RTTM file beside each."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Everything a part needs: people that nothing was fitted on, all of them enrolled."""

    studio: Studio
    models: ConversationModels
    people: list[Person]

    def known(self, *, in_rooms: bool) -> Known:
        """Their gallery, as conversations hold it (`in_rooms`) or as streams hold one claimed person."""
        return gallery(self.people, self.studio, self.models, in_rooms=in_rooms)


def stage(recordings: Sequence[Recording], root: Path, models: Path, given: Conversations) -> Stage:
    """Raises QuantizeError where the manifest has too few people, and what opening the models raises."""
    opened = open_models(models, models / MEMORY_NAME)
    studio = Studio(root, given.noises, given.rooms)
    return Stage(studio, opened, people_of(recordings, tuning=False))


def diarization(on: Stage, given: Conversations, bar: Bar, replicates: int) -> DiarizationResult:
    """Who spoke when, in made conversations and in the real ones that were given."""
    real = real_recordings(given.real, lambda path: read_recording(path, FileLimits())) if given.real else {}
    return measure(
        on.studio.mixtures(on.people, given.mixtures, SEED),
        on.models,
        on.known(in_rooms=True),
        bar("who spoke when", given.mixtures + len(real)),
        replicates=replicates,
        real=real,
    )


def changes(on: Stage, given: Conversations, bar: Bar, replicates: int) -> ChangesResult:
    """How soon a stream notices that another person goes on."""
    streams = series(
        on.studio.spliced(on.people, given.streams, SEED),
        on.models,
        on.known(in_rooms=False),
        bar("another person goes on", given.streams),
    )
    return evaluate_changes(streams, TrustSettings(), replicates)
