"""Plans whole attempts over a manifest, measures what they need, and plays them under every condition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from device.access.rules.levels import LEVELS
from device.evidence.enrolled import ENROLMENT_PHRASES
from device.liveness.context import ContextChecks
from device.model_store import slots
from device.models.second_words import SecondWords, heard_twice
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import CARD_ROLE
from device.settings import WordsEngine
from quantize.evaluate.checks.opened import THREADS, open_spoof, open_words
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.door.attempts import Findings, play
from quantize.evaluate.door.cast import Cast, cast
from quantize.evaluate.door.heard import CONDITIONS, Condition, Surroundings, named
from quantize.evaluate.door.measure import Checks, Measurements
from quantize.evaluate.door.rooms import ROOMS
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from sync.plain_file import plain_bytes

WARD = ("hospital", "alarm")
"""In the names of folders of recorded noise."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of all whole attempts are played: all of them take an hour."""

    heard: tuple[str, ...] = ()
    """Conditions by name; empty for all."""
    attacks: bool = True
    fitted: bool = False
    """People on whom calibrations are fitted, in other rooms and beside other ward sounds: to see where
    their refusals come from, not to report."""
    phrases: int = ENROLMENT_PHRASES
    """That enrol a person who has as many recordings."""

    def conditions(self, around: Surroundings) -> list[Condition]:
        """Those asked for that there is anything to make of, in their usual order."""
        return [one for one in named(self.heard).values() if around.can(one)]


def open_checks(models: Path, words: WordsEngine) -> Checks:
    """The door's three checks, and its evidence for joins."""
    bundle = slots.active(models)
    speaker = SpeakerModel.open(bundle, threads=THREADS)
    twice = words is WordsEngine.ONNX and heard_twice(bundle)
    second = SecondWords(bundle, THREADS, patience_s=600.0) if twice else None
    return Checks(open_words(models, words), speaker, open_spoof(models), second, ContextChecks.open())


def surroundings(recordings: Sequence[Recording], noises: Sequence[Recording], root: Path) -> Surroundings:
    """Voices of people that calibrations were fitted on, who never knock; of ward sounds the later half.

    The earlier half is for fitting: alarms come from few recordings, in the order of their names.
    """
    voices = tuple(r for r in recordings if r.label == "bonafide" and r.speaker and fits(r.speaker))
    return Surroundings(root, voices, ward_sounds(noises)[1])


def other_surroundings(around: Surroundings, noises: Sequence[Recording]) -> Surroundings:
    """The same with rooms and ward sounds that nothing is judged with."""
    return replace(around, ward=ward_sounds(noises)[0], rooms_from=ROOMS)


def ward_sounds(noises: Sequence[Recording]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(to fit on, to judge with)."""
    paths = sorted(noise.path for noise in noises if any(name in noise.folder for name in WARD))
    half = len(paths) // 2
    return tuple(paths[:half]), tuple(paths[half:])


def taught(models: Path) -> set[str]:
    """Folders whose attacks the live check's networks were trained on, as its card says."""
    card = json.loads(plain_bytes(slots.active(models).path(CARD_ROLE)))
    pages = (name.rpartition(" ") for name in card.get("trained_on", {}))
    return {page for page, _, label in pages if label == "spoof"}


def whole_attempts(
    recordings: Sequence[Recording],
    noises: Sequence[Recording],
    root: Path,
    models: Path,
    words: WordsEngine,
    kept: Path | None,
    bars: Bars,
    scope: Scope | None = None,
) -> tuple[dict[str, Findings], dict[str, str]]:
    """(what was found by condition, the versions of the checks). Nothing where nobody can be enrolled.

    Every condition of `scope` at the security level `standard`; clean also at the others, as "clean, drugs"
    and so on.
    """
    scope = scope or Scope()
    people: Cast = cast(recordings, taught(models), fitted=scope.fitted, phrases=scope.phrases)
    if not scope.attacks:
        people = replace(people, attacks={})
    if not people.probes:
        return {}, {}
    around = surroundings(recordings, noises, root)
    around = other_surroundings(around, noises) if scope.fitted else around
    conditions = scope.conditions(around)
    checks = open_checks(models, words)
    asks = list(people.asks(conditions))
    found = Measurements(checks, around, kept).all(asks, bars.bar("sounds at a door", len(asks)))
    versions = {"words": checks.words.version, "speaker, int8": checks.speaker.version}
    findings = {condition.name: play(people, found, checks, condition) for condition in conditions}
    clean = CONDITIONS[0]
    for level, risk in LEVELS.items():
        if risk != people.risk and clean in conditions:
            findings[f"{clean.name}, {level}"] = play(replace(people, risk=risk), found, checks, clean)
    if checks.second_words is not None:
        versions["words, second hearing"] = checks.second_words.version
    return findings, {**versions, "spoof": checks.spoof.version}
