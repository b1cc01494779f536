"""What becomes of people, and of attacks, when staff or the room does something to the sound.

    python -m research.trials.disturbed --manifest M.tsv --root DIR --out FILE.json

Every sound goes through the door's own listener, endpointer, audio checks, judge and policy, frame by frame,
with a quiet room before and after. People are those on whom no calibration was fitted (`--fitted`: the other
half, to look at while something is made). An attack is a perfect clone: its words and voice are somebody's
own, and only what asks for life is measured of it.

Every sound is heard once and decided twice: as the door does, and without what is measured for the sake of
this table: pauses, steady tones, clicks, whispers, talkers, mirror images, words beside the phrase, the tone.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import numpy as np

from device.access.decision import Decision
from device.access.rules.levels import LEVELS
from device.access.weigh import weigh
from device.audio import (
    AudioSettings,
    EndpointerSettings,
    Flaw,
    Frame,
    Quality,
    QualityError,
    QualityLimits,
    Utterance,
    load_utterance,
)
from device.audio.source import framed
from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.evidence.enrolled import Voices
from device.evidence.judge import Evidence, Judge, JudgeError, Reference
from device.evidence.listener import AnswerProgress, Heard, Listener
from device.feedback.earcons import TONE_S, own_tones
from device.liveness import NO_CONTEXT_EVIDENCE
from device.liveness.context import ContextChecks
from device.model_store import slots
from device.models.speaker import InconsistentEnrolmentError, SpeakerModel
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine, models_dir
from quantize.evaluate.checks.opened import THREADS, open_spoof, open_words
from quantize.evaluate.checks.phrase import rate
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.door.measure import wav
from quantize.evaluate.door.whole import taught
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, noises, read_manifest
from quantize.evaluate.recordings.trials import speaker_plan
from research.trials import sounds
from research.trials.disturbances import (
    DISTURBANCES,
    LEAST_WORDS,
    Disturbance,
    Said,
    Stage,
    dice_of,
    stage_of,
)

T = TypeVar("T")

RISK = LEVELS["standard"]
TAIL_S = 2.2
IN, AGAIN, MORE, PHRASE, VOICE = "in", "again", "one more", "words", "voice"
ATTACKER, OTHER = "attacker", "other"
OUTCOMES = (IN, AGAIN, MORE, PHRASE, VOICE, ATTACKER, OTHER)
"""In at once; asked again, uncounted; asked for one more phrase; refused and counted for words, for the
voice, as an attacker; anything else."""
PLAIN_BAND_HZ = 4_500.0
"""What the guard against narrow bands took cheap converters for, before it looked for mirror images."""


class _Sound:
    """An AudioSource over samples in memory: the sound with a quiet room around it."""

    def __init__(self, said: Said, dice: np.random.Generator) -> None:
        level = sounds.floor_level(said.wave)
        parts = [sounds.quiet(said.lead_s, level, dice), said.wave, sounds.quiet(TAIL_S, level, dice)]
        whole = np.clip(np.concatenate(parts), -1.0, 32767 / 32768)
        self._samples = np.round(whole * 32767).astype(np.int16)

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for frame in framed(self._samples):
            if stop.is_set():
                return
            yield frame


@dataclass(slots=True)
class _Later:
    """An utterance, and its judgement once somebody asks for it: pauses that speech ends cost nothing."""

    utterance: Utterance
    phrase: str
    template: Reference
    judge: Judge
    evidence: Evidence | None = None

    def __call__(self) -> Evidence:
        if self.evidence is None:
            self.evidence = self.judge(self.utterance, self.phrase, self.template)
        return self.evidence


@dataclass(frozen=True, slots=True)
class Pair:
    """What is decided on, without and with what this table is about."""

    without: Heard
    having: Heard


@dataclass(slots=True)
class Door:
    """The door's listener with its judge behind it."""

    judge: Judge
    words: Transcriber
    limits: QualityLimits = field(default_factory=QualityLimits)

    def hear(self, said: Said, template: Reference, dice: np.random.Generator) -> Pair:
        """What the door has of one sound, or why it has nothing."""
        heard, utterance = self._heard(said, template, dice)
        without = heard
        if isinstance(heard, QualityError) and heard.code is Flaw.WHISPERED:
            without = QualityError(Flaw.SILENCE, "No voice was heard.")
        if said.tone:
            without = self._deaf(said, template, dice)
        elif said.hesitates:
            without = self._heard(said, template, dice, hesitant=False)[0]
        elif isinstance(heard, Evidence) and utterance is not None:
            context = replace(heard.context, uncoughed_llr=None)
            without = replace(
                heard, quality=_plain(heard.quality), unclicked_llr=None, coughs=0, context=context
            )
            if heard.phrase_llr >= RISK.thresholds.phrase_llr:  # alone, the phrase may have had less
                clues, _ = self.words.clues(utterance.wave(), said.phrase)
                without = replace(without, phrase_llr=self.words.llr(clues))
        if isinstance(heard, Evidence) and heard.quality.lull_db < self.limits.min_lull_db:
            heard = QualityError(Flaw.TOO_NOISY, "It is too noisy to hear you.")
        return Pair(without, heard)

    def _deaf(self, said: Said, template: Reference, dice: np.random.Generator) -> Heard:
        """What is left when everything that the tone lies over is lost."""
        cut = said.wave[round(TONE_S * SAMPLE_RATE_HZ) :]
        return self._heard(replace(said, wave=cut, tone=False), template, dice)[0]

    def _heard(
        self, said: Said, template: Reference, dice: np.random.Generator, *, hesitant: bool = True
    ) -> tuple[Heard, Utterance | None]:
        def later(utterance: Utterance, phrase: str, reference: Reference, *_: object) -> _Later:
            own = replace(utterance, samples=utterance.samples.copy())  # the listener overwrites its own
            return _Later(own, phrase, reference, self.judge)

        tones = own_tones() if said.tone else None
        pauses = EndpointerSettings()
        if not hesitant:
            pauses = replace(pauses, hesitation_ms=pauses.end_ms)
        settings = AudioSettings(pauses, quality=replace(self.limits, min_lull_db=0.0))
        listener = Listener(cast(Judge, later), settings, 600.0, tones)
        try:
            answer = listener.hear(
                _Sound(said, dice),
                said.phrase,
                template,
                start_within_s=600.0,
                stop=threading.Event(),
                progress=AnswerProgress(),
                lacks_words=lambda one: _lacks(cast(_Later, one)()),
            )
        finally:
            listener.close()
        heard: object = answer.heard
        if not isinstance(heard, _Later):
            return answer.heard, None
        try:
            return heard(), heard.utterance
        except JudgeError as err:
            return err, None


def _plain(quality: Quality) -> Quality:
    """Without coughs, steady tones and talkers; mirror images count as speech."""
    hz = max(quality.bandwidth_hz, PLAIN_BAND_HZ)
    return replace(quality, steady_lines=0, filled=False, lull_db=60.0, bandwidth_hz=hz)


def _lacks(evidence: Evidence) -> bool:
    return evidence.phrase_llr < RISK.thresholds.phrase_llr


def outcome(decision: Decision) -> str:
    """One of OUTCOMES."""
    if decision.opens:
        return IN
    name = str(decision.outcome)
    if not decision.counts_as_failure:
        return AGAIN if name == "DENIED_QUALITY" else OTHER
    counted = {"STEP_UP": MORE, "DENIED_PHRASE": PHRASE, "DENIED_VOICE": VOICE, "DENIED_SPOOF": ATTACKER}
    return counted.get(name, OTHER)


@dataclass(slots=True)
class Counted:
    """What became of one kind of sound."""

    found: list[tuple[str, Decision, Decision]] = field(default_factory=list)
    """(person or system, decision without, decision with)."""

    def note(self, unit: str, pair: Pair) -> Decision:
        """Decide, and count."""
        without, having = (weigh(heard, RISK, claimed=True) for heard in (pair.without, pair.having))
        self.found.append((unit, without, having))
        return having

    def shares(self, *, having: bool) -> dict[str, Any]:
        """[how many, of how many, 95 % from, to] of each outcome; what people were told."""
        groups: dict[str, list[str]] = defaultdict(list)
        told: Counter[str] = Counter()
        for unit, *decisions in self.found:
            decision = decisions[having]
            groups[unit].append(outcome(decision))
            told[f"{decision.outcome}/{decision.code}/{decision.notice}"] += 1
        table: dict[str, Any] = {"units": len(groups), "sounds": len(self.found)}
        for name in OUTCOMES:
            one = rate(list(groups), [[what == name for what in got] for got in groups.values()])
            table[name] = [one.accepted, one.trials, round(one.low, 4), round(one.high, 4)]
        return {**table, "told": dict(told.most_common(6))}


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part; one recording of each person knocks."""

    enrolments: Mapping[str, Sequence[Recording]]
    probes: Mapping[str, Recording]
    attacks: Sequence[Recording]


def cast_of(
    recordings: Sequence[Recording], known: set[str], *, fitted: bool, people: int, attacks: int
) -> Cast:
    """At most `people` speakers on whom something was fitted, or nothing; at most `attacks` systems of pages
    not in `known`.

    Attacks: the first file of each system to report on, the second to look at.
    """
    plan = speaker_plan(recordings)
    probes: dict[str, Recording] = {}
    for one in plan.probes:
        if len(one.text.split()) >= LEAST_WORDS and fits(one.speaker) == fitted:
            probes[one.speaker] = one
    ready = sorted(probes)
    chosen = _spread(ready, people)
    systems: dict[str, list[Recording]] = defaultdict(list)
    for one in recordings:
        if one.label == "spoof" and one.folder not in known:
            systems[f"{one.folder}: {one.system}"].append(one)
    fakes = [one for files in systems.values() for one in files[int(fitted) : int(fitted) + 1]]
    return Cast(
        {who: plan.enrolments[who] for who in chosen},
        {who: probes[who] for who in chosen},
        _spread(fakes, attacks),
    )


def _spread(every: Sequence[T], most: int) -> list[T]:
    """At most so many of them, from beginning to end."""
    return [every[int(at)] for at in np.linspace(0, len(every) - 1, min(most, len(every)))]


def play(
    who: Cast, stage: Stage, door: Door, wanted: Sequence[Disturbance], bars: Bars
) -> tuple[dict[str, Counted], dict[str, Counted]]:
    """(people, attacks) by disturbance."""
    people = {one.name: Counted() for one in wanted if one.people}
    attacks = {one.name: Counted() for one in wanted if one.attacks}
    templates = _templates(who, stage, door.judge)
    progress = bars.bar("sounds", len(templates) * len(people) + len(who.attacks) * len(attacks))
    partner: Evidence | None = None
    for person, template in templates.items():
        recording = who.probes[person]
        for one in (one for one in wanted if one.people):
            dice = dice_of(recording.path, one.name)
            said = one.make(stage.around.wave(recording.path), recording, stage, dice)
            progress()
            if said is not None:
                pair = door.hear(said, template, dice)
                opens = people[one.name].note(person, pair).opens
                partner = pair.having if opens and isinstance(pair.having, Evidence) else partner
    for recording in who.attacks if partner is not None else ():
        for one in (one for one in wanted if one.attacks):
            dice = dice_of(recording.path, one.name)
            said = one.make(stage.around.wave(recording.path), recording, stage, dice)
            progress()
            if said is not None and partner is not None:
                unit = f"{recording.folder}: {recording.system}"
                attacks[one.name].note(unit, cloned(door.judge, said.wave, partner))
    return people, attacks


def cloned(judge: Judge, wave: sounds.Wave, partner: Evidence) -> Pair:
    """An attack with somebody's words and voice."""
    try:
        utterance = load_utterance(wav(wave))
        quality = utterance.quality
        _, llr, unclicked_llr, broken = judge.lived(utterance.wave(), quality)
    except DeviceError as err:
        return Pair(err, err)
    heard = replace(
        partner,
        spoof_llr=llr,
        unclicked_llr=unclicked_llr,
        quality=replace(quality, filled=quality.filled or broken),
        context=NO_CONTEXT_EVIDENCE,
    )
    return Pair(replace(heard, quality=_plain(quality), unclicked_llr=None), heard)


def _templates(who: Cast, stage: Stage, judge: Judge) -> dict[str, Any]:
    found = {}
    for person, files in who.enrolments.items():
        waves = [stage.around.wave(one.path) for one in files]
        with suppress(InconsistentEnrolmentError):  # asked to record again; takes no part
            found[person] = Voices.of(judge.speaker, waves).voice(judge.speaker)
    return found


def open_door(models: Path) -> Door:
    """The door's judge with its context checks; it remembers nothing."""
    speaker = SpeakerModel.open(slots.active(models), threads=THREADS)
    words = open_words(models, WordsEngine.ONNX)
    return Door(Judge(words, speaker, open_spoof(models), ContextChecks.open()), words)


def lines(people: Mapping[str, Counted], attacks: Mapping[str, Counted]) -> Iterator[str]:
    """Four lines for each kind of sound."""
    for kind, table in (("people", people), ("attacks", attacks)):
        for name, counted in ((name, one) for name, one in table.items() if one.found):
            for having, when in ((False, "without"), (True, "with")):
                shares = counted.shares(having=having)
                said = ", ".join(f"{what} {shares[what][0]}" for what in OUTCOMES if shares[what][0])
                yield f"{kind:<8} {name:<24} {shares['sounds']:>4} {when:<8} {said}"
                yield " " * 12 + ", ".join(f"{told} {n}" for told, n in shares["told"].items())


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A JSON file.")
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="The model directory.")
@click.option("--people", default=40, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--attacks", default=40, show_default=True, type=click.IntRange(0, 1_000), help="Of each kind.")
@click.option("--only", multiple=True, help="Disturbances whose names begin so; all by default.")
@click.option("--fitted", is_flag=True, help="The people and attacks to look at, not those to report on.")
def main(
    manifest: Path,
    root: Path,
    out: Path,
    models: Path | None,
    people: int,
    attacks: int,
    only: tuple[str, ...],
    fitted: bool,
) -> None:
    """What becomes of people and attacks when staff or the room does something to the sound."""
    recordings = read_manifest(manifest, root)
    folder = models or models_dir()
    wanted = [one for one in DISTURBANCES if not only or one.name.startswith(only)]
    who = cast_of(recordings, taught(folder), fitted=fitted, people=people, attacks=attacks)
    stage = stage_of(recordings, noises(manifest, root), root, fitted=fitted)
    with Bars() as bars:
        found = play(who, stage, open_door(folder), wanted, bars)
    for line in lines(*found):
        click.echo(line)
    tables = [
        {
            name: {when: one.shares(having=when == "with") for when in ("without", "with")}
            for name, one in table.items()
            if one.found
        }
        for table in found
    ]
    text = json.dumps(dict(zip(("people", "attacks"), tables, strict=True)), indent=1)
    out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
