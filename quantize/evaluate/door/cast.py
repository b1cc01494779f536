"""Who takes part in whole attempts: people with recordings to enrol and phrases to say, and attacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device.access.rules import RiskClass
from device.access.rules.levels import LEVELS
from device.evidence.enrolled import ENROLMENT_PHRASES
from quantize.evaluate.door.heard import CONDITIONS, Condition
from quantize.evaluate.door.measure import Ask
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import ENROLMENT_FILES, SpeakerPlan, speaker_plan

RISK = LEVELS["standard"]
LEAST_WORDS = 3
"""No door shows a single word."""
MOST_PROBES = 3
MOST_OF_SYSTEM = 3
"""Of one person and one system: more of the same say little more."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: people with recordings to enrol and phrases to say, and attacks."""

    enrolments: Mapping[str, tuple[Recording, ...]]
    probes: Mapping[str, tuple[Recording, ...]]
    attacks: Mapping[str, tuple[Recording, ...]]
    """By system."""
    risk: RiskClass = RISK
    """What the door asks for."""

    def asks(self, conditions: Sequence[Condition]) -> Iterator[Ask]:
        """Everything that must be measured."""
        clean = CONDITIONS[0]
        for files in self.enrolments.values():
            yield from (Ask(r, clean, live=False) for r in files)
        for condition in (clean, *(one for one in conditions if one != clean)):
            if condition.people or condition.loudspeaker:
                for files in self.probes.values():
                    yield from (Ask(r, condition, words=True) for r in files)
            for files in self.attacks.values():
                yield from (Ask(r, condition, voice=False) for r in files)


def cast(
    recordings: Sequence[Recording],
    taught: Collection[str] = (),
    *,
    fitted: bool = False,
    phrases: int = ENROLMENT_PHRASES,
) -> Cast:
    """People that no calibration was fitted on, spread evenly over their recordings; attacks likewise.

    `taught` names the folders whose attacks trained the live check: those are left out. `fitted`: the other
    people instead, on whom whatever comes of it may be fitted. `phrases`: how many enrol, where a person has
    as many.
    """
    plan: SpeakerPlan = speaker_plan(recordings)
    probes: dict[str, list[Recording]] = defaultdict(list)
    for probe in plan.probes:
        if len(probe.text.split()) >= LEAST_WORDS and fits(probe.speaker) == fitted:
            probes[probe.speaker].append(probe)
    chosen = {who: _spread(files, MOST_PROBES) for who, files in probes.items() if len(files) >= 2}
    systems: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.label == "spoof" and recording.folder not in taught:
            systems[f"{recording.folder}: {recording.system}"].append(recording)
    return Cast(
        enrolments={who: _enrolment(plan, recordings, who, files, phrases) for who, files in chosen.items()},
        probes=chosen,
        attacks={name: _spread(files, MOST_OF_SYSTEM) for name, files in sorted(systems.items())},
    )


def _enrolment(
    plan: SpeakerPlan, recordings: Sequence[Recording], who: str, probes: Sequence[Recording], most: int
) -> tuple[Recording, ...]:
    """The first three by path, then the longest texts of those that say no phrase at the door, as many as an
    enrolment asks for."""
    first = plan.enrolments[who][:ENROLMENT_FILES]
    taken = {one.path for one in (*first, *probes)}
    left = [
        one for one in recordings if one.label == "bonafide" and one.speaker == who and one.path not in taken
    ]
    longest = sorted(left, key=lambda one: (-len(one.text.split()), one.path))
    return (*first, *longest[: most - len(first)])


def _spread(files: Sequence[Recording], most: int) -> tuple[Recording, ...]:
    if len(files) <= most:
        return tuple(files)
    return tuple(files[round(at)] for at in np.linspace(0, len(files) - 1, most))
