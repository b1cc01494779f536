"""Which recordings meet which: enrolments, probes, attacks and phrases, by fixed and stated rules."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from device.evidence.phrase import competitors, normalise
from quantize.evaluate.recordings.manifest import Recording

ENROLMENT_FILES = 3
LEAST_FILES = 5
NEAR_MISSES = 2


@dataclass(frozen=True, slots=True)
class SpeakerPlan:
    """Whom to enrol from which recordings, and the probes.

    A probe is a target trial against its own speaker and an impostor trial against every other one.
    """

    enrolments: dict[str, tuple[Recording, ...]]
    probes: tuple[Recording, ...]

    def recordings(self) -> list[Recording]:
        """Every file the plan needs, each once."""
        return [r for files in self.enrolments.values() for r in files] + list(self.probes)


def speaker_plan(recordings: Sequence[Recording]) -> SpeakerPlan:
    """Speakers with five or more bona fide files: the first three by path enrol, the rest probe."""
    files: dict[str, list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda r: r.path):
        if recording.label == "bonafide" and recording.speaker:
            files[recording.speaker].append(recording)
    chosen = {speaker: mine for speaker, mine in sorted(files.items()) if len(mine) >= LEAST_FILES}
    return SpeakerPlan(
        enrolments={speaker: tuple(mine[:ENROLMENT_FILES]) for speaker, mine in chosen.items()},
        probes=tuple(r for mine in chosen.values() for r in mine[ENROLMENT_FILES:]),
    )


@dataclass(frozen=True, slots=True)
class PhraseTrial:
    """One recording, the phrase it says, and phrases it does not say."""

    recording: Recording
    right: str
    wrong: str
    near: tuple[str, ...] = ()
    """The right phrase with one word replaced by another of its class."""
    others: tuple[str, ...] = ()
    """Further texts of the manifest."""


def phrase_trials(
    recordings: Sequence[Recording], near: int = NEAR_MISSES, pairings: int = 0
) -> list[PhraseTrial]:
    """Every bona fide file with a text, beside the text of another file of its folder.

    The wrong phrase is the one nearest in number of words, so that length alone gives nothing away; among
    equals a hash of path and text picks, so that the list never changes between runs. Files whose folder
    has a single text are left out: there is nothing they could be mistaken for. `pairings` further wrong
    phrases come by hash too, those of the folder first.
    """
    texts: dict[str, set[str]] = defaultdict(set)
    spoken = [r for r in recordings if r.label == "bonafide" and r.text]
    for recording in spoken:
        texts[recording.folder].add(recording.text)
    trials = []
    for recording in spoken:
        others = texts[recording.folder] - {recording.text}
        if others:
            wrong = _nearest(recording, others)
            trials.append(
                PhraseTrial(
                    recording,
                    recording.text,
                    wrong,
                    competitors(recording.text, 2 * near)[::2],
                    _others(recording, others - {wrong}, set().union(*texts.values()) - others, pairings),
                )
            )
    return trials


def _others(recording: Recording, near: set[str], far: set[str], count: int) -> tuple[str, ...]:
    """`count` texts that say something else, `near` ones first."""

    def order(text: str) -> str:
        return hashlib.sha256(f"{recording.path}\0other\0{text}".encode()).hexdigest()

    said = normalise(recording.text)
    candidates = (text for group in (near, far) for text in sorted(group, key=order))
    return tuple(islice((text for text in candidates if normalise(text) != said), count))


def _nearest(recording: Recording, others: set[str]) -> str:
    words = len(recording.text.split())

    def order(text: str) -> tuple[int, str]:
        pick = hashlib.sha256(f"{recording.path}\0{text}".encode()).hexdigest()
        return abs(len(text.split()) - words), pick

    return min(others, key=order)
