"""How often the unit is wrong about who spoke when, on conversations with a known reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from device.audio.utterance import Samples
from device.conversation.diarization import diarize
from device.conversation.hearing import windows
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.conversation.streams.live import LiveDiarizer
from device.conversation.turns import Turn
from device.errors import DeviceError
from device.evidence.voice.copies import door_vector, makes, of_recording
from quantize.evaluate.checks.speaker import template
from quantize.evaluate.conversation.der import Errors, errors
from quantize.evaluate.conversation.mixtures import Mixture, Person, Studio
from quantize.evaluate.figures.intervals import Estimate
from sync.plain_file import plain_text
from sync.plain_words import what_and_why

COLLARS_S = (0.0, 0.25)
KNOWN, UNKNOWN, GIVEN, LIVE = "known voices", "unknown voices", "unknown voices, count given", "live"
MODES = (KNOWN, UNKNOWN, GIVEN, LIVE)
LIVE_PORTION = 3_200
GOALS = {KNOWN: 0.05, UNKNOWN: 0.08, LIVE: 0.12}
"""DER with a collar of 0.25 s, overlap scored."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """One recording: errors by mode and collar, and how many people each mode counted."""

    name: str
    people: int
    overlap: float
    snr_db: float | None
    room: str
    seconds: float
    errors: dict[str, dict[str, Errors]]
    counted: dict[str, int]
    fewest: int
    most: int
    cpu_s: dict[str, float]
    strangers: int = 0
    """Voices found against a gallery of everybody but these people."""
    strangers_named: int = 0
    """Of these voices, how many got somebody's name."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of reference speech, over several recordings together, with 95 % intervals over them."""

    der: Estimate
    missed: float
    false_alarm: float
    confusion: float
    recordings: int


@dataclass(frozen=True, slots=True)
class DiarizationResult:
    """Everything about one set: figures by mode and collar, DER by condition, the count, time, each file."""

    version: str
    figures: dict[str, dict[str, Figures]]
    by_condition: dict[str, dict[str, dict[str, Figures]]]
    """Condition, its value, mode; collar 0.25 s."""
    count_right: dict[str, float]
    count_in_range: float
    """Unknown voices: the share of recordings whose number of people lies in the stated range."""
    real_time: dict[str, float]
    """Seconds of one core for each second of sound."""
    strangers_named: tuple[int, int]
    """(named, voices) where nobody of the conversation is in the gallery."""
    recordings: list[Attempted] = field(default_factory=list)
    real: list[Attempted] = field(default_factory=list)


def gallery(people: Sequence[Person], studio: Studio, models: ConversationModels, *, in_rooms: bool) -> Known:
    """Everybody, enrolled from three recordings that no mixture uses; by their door vectors with `in_rooms`,
    where this speaker model has any."""
    templates = {}
    for person in people:
        waves = [studio.wave(one) for one in person.enrol]
        heard = [models.speaker.embed(wave) for wave in waves]
        if in_rooms and makes(models.speaker.version):
            copies = [of_recording(models.speaker, wave) for wave in waves]
            templates[person.name] = door_vector(heard, copies)
        else:
            templates[person.name] = template(heard)
    return Known(templates, models.calibration.llr)


def attempt_mixture(mixture: Mixture, models: ConversationModels, known: Known) -> Attempted:
    """All modes on one made conversation, and who is named in it when nobody of it is enrolled."""
    return attempt(
        mixture.name,
        mixture.samples,
        mixture.reference,
        models,
        known,
        overlap=mixture.overlap,
        snr_db=mixture.snr_db,
        room=mixture.room,
        strangers_to=without(known, mixture.people),
    )


def without(known: Known, people: Sequence[Person]) -> Known:
    """The gallery without these people."""
    gone = {person.name for person in people}
    return replace(known, templates={n: t for n, t in known.templates.items() if n not in gone})


def attempt(
    name: str,
    samples: Samples,
    reference: Sequence[Turn],
    models: ConversationModels,
    known: Known | None = None,
    *,
    overlap: float = 0.0,
    snr_db: float | None = None,
    room: str = "",
    strangers_to: Known | None = None,
) -> Attempted:
    """All modes on one recording; without `known` all but that.

    `strangers_to` is a gallery of other people.
    """
    seconds = len(samples) / 16_000
    people = len({turn.speaker for turn in reference})
    began = time.process_time()
    heard = list(windows(samples, models.segmentation, models.speaker))
    cpu = {UNKNOWN: time.process_time() - began}
    unknown = diarize(heard, seconds)
    found: dict[str, Sequence[Turn]] = {
        UNKNOWN: unknown.turns,
        GIVEN: diarize(heard, seconds, speakers=people).turns,
    }
    if known is not None:
        found[KNOWN] = diarize(heard, seconds, known).turns
    strangers = diarize(heard, seconds, strangers_to).speakers if strangers_to else ()
    began = time.process_time()
    found[LIVE] = live_turns(samples, models)
    cpu[LIVE] = time.process_time() - began
    return Attempted(
        name,
        people,
        overlap,
        snr_db,
        room,
        seconds,
        {
            mode: {
                f"{collar_s:g}": errors(reference, turns, seconds, collar_s, named=mode == KNOWN)
                for collar_s in COLLARS_S
            }
            for mode, turns in found.items()
        },
        {mode: len({turn.speaker for turn in turns}) for mode, turns in found.items()},
        unknown.fewest,
        unknown.most,
        cpu,
        len(strangers),
        sum(one.llr is not None for one in strangers),
    )


def live_turns(samples: Samples, models: ConversationModels) -> list[Turn]:
    """The turns as a stream first reported them; its later corrections do not count."""
    live = LiveDiarizer(models.segmentation, models.speaker)
    updates = []
    for begin in range(0, len(samples), LIVE_PORTION):
        updates += live.push(samples[begin : begin + LIVE_PORTION])
    updates += live.finish()
    return [turn for update in updates for turn in update.turns]


def measure(
    mixtures: Iterable[Mixture],
    models: ConversationModels,
    known: Known,
    progress: Callable[[], None],
    *,
    replicates: int = 300,
    real: Mapping[str, tuple[Samples, Sequence[Turn]]] | None = None,
) -> DiarizationResult:
    """Every mode on every mixture, and on `real` recordings, of whose people nobody is known."""
    done = []
    for mixture in mixtures:
        done.append(attempt_mixture(mixture, models, known))
        progress()
    others = []
    for name, (samples, reference) in (real or {}).items():
        others.append(attempt(name, samples, reference, models))
        progress()
    conditions: dict[str, Callable[[Attempted], str]] = {
        "people": lambda one: f"{one.people}",
        "overlap": lambda one: f"{10 * round(10 * one.overlap)} %",
        "where": lambda one: "room" if one.room else "close",
        "noise": lambda one: "10 to 15 dB" if (one.snr_db or 0.0) < 15.0 else "15 to 20 dB",
    }
    return DiarizationResult(
        version=" + ".join(models.versions),
        figures={
            mode: {f"{c:g}": figures_of(done, mode, f"{c:g}", replicates) for c in COLLARS_S}
            for mode in MODES
        },
        by_condition={
            name: {
                value: {
                    mode: figures_of([one for one in done if key(one) == value], mode, "0.25", replicates)
                    for mode in MODES
                }
                for value in sorted({key(one) for one in done})
            }
            for name, key in conditions.items()
        },
        count_right={
            mode: float(np.mean([one.counted[mode] == one.people for one in done]))
            for mode in (KNOWN, UNKNOWN, LIVE)
        },
        count_in_range=float(np.mean([one.fewest <= one.people <= one.most for one in done])),
        real_time={
            mode: sum(one.cpu_s[mode] for one in done) / sum(one.seconds for one in done)
            for mode in (UNKNOWN, LIVE)
        },
        strangers_named=(sum(one.strangers_named for one in done), sum(one.strangers for one in done)),
        recordings=done,
        real=others,
    )


def figures_of(done: Sequence[Attempted], mode: str, collar: str, replicates: int, seed: int = 1) -> Figures:
    """Over all recordings together; the interval draws recordings with replacement."""
    each = [one.errors[mode][collar] for one in done]
    total = sum(each, Errors())
    dice = np.random.default_rng(seed)
    wrong = np.array([one.missed_s + one.false_alarm_s + one.confusion_s for one in each])
    speech = np.array([one.speech_s for one in each])
    drawn = dice.integers(len(each), size=(max(1, replicates), len(each)))
    spread = wrong[drawn].sum(axis=1) / np.maximum(speech[drawn].sum(axis=1), 1e-9)
    low, high = np.percentile([*spread, total.der], [2.5, 97.5])
    return Figures(
        Estimate(total.der, float(low), float(high)),
        total.share(total.missed_s),
        total.share(total.false_alarm_s),
        total.share(total.confusion_s),
        len(each),
    )


def summary(result: DiarizationResult) -> dict[str, object]:
    """The few figures most readers want."""
    return {
        "der": {
            mode: {collar: asdict(found) for collar, found in by.items()}
            for mode, by in result.figures.items()
        },
        "count_right": result.count_right,
        "count_in_range": result.count_in_range,
        "real_time_factor": result.real_time,
        "strangers_named": result.strangers_named,
        "real": {
            one.name: {mode: {c: e.der for c, e in by.items()} for mode, by in one.errors.items()}
            for one in result.real
        },
        "goals": GOALS,
    }


def real_recordings(folder: Path, read: Callable[[Path], Samples]) -> dict[str, tuple[Samples, list[Turn]]]:
    """Recordings in `folder` with an RTTM file beside them, by name. Raises what reading raises."""
    from device.conversation.turns import from_rttm

    found = {}
    for path in sorted(folder.iterdir()):
        turns = path.with_suffix(".rttm")
        if path.suffix in (".wav", ".flac") and turns.is_file():
            try:
                found[path.stem] = (read(path), from_rttm(plain_text(turns)))
            except (UnicodeDecodeError, OSError) as err:
                raise DeviceError(f"{turns.name} cannot be read ({what_and_why(err)})") from err
    return found
