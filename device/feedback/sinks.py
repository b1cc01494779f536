"""Feedback on displays, LEDs and loudspeakers. A broken one never stops a door."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from rich.align import Align
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from device.access.challenge import Challenge
from device.access.decision import OPENING, Decision, Notice, Outcome
from device.audio.utterance import Samples
from device.feedback.earcons import Earcon, waveform
from device.feedback.messages import Language
from sync.plain_words import told

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """The state of an attempt as the person sees it."""

    READY = "ready"
    SPEAK = "speak"
    LISTENING = "listening"
    THINKING = "thinking"
    OPEN = "open"
    RETRY = "retry"
    REFUSED = "refused"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Cue:
    """One change of what the door shows. Duress makes the same cue as an ordinary opening."""

    stage: Stage
    text: str
    phrase: str = ""


class Sink(Protocol):
    """Shows cues to the person. `show` returns quickly and may drop a cue."""

    def show(self, cue: Cue) -> None: ...


@dataclass(frozen=True, slots=True)
class Light:
    """An LED's colour and blink rate; 0 Hz is steady. States differ in rate, too, not in colour alone."""

    colour: str
    blink_hz: float


LIGHTS = {
    Stage.READY: Light("white", 0.0),
    Stage.SPEAK: Light("blue", 1.0),
    Stage.LISTENING: Light("blue", 0.0),
    Stage.THINKING: Light("blue", 4.0),
    Stage.OPEN: Light("green", 0.0),
    Stage.RETRY: Light("amber", 1.0),
    Stage.REFUSED: Light("red", 0.0),
    Stage.FAULT: Light("red", 0.5),
}
EARCONS = {
    Stage.SPEAK: Earcon.SPEAK_NOW,
    Stage.OPEN: Earcon.OPEN,
    Stage.RETRY: Earcon.TRY_AGAIN,
    Stage.REFUSED: Earcon.REFUSED,
    Stage.FAULT: Earcon.FAULT,
}
_RETRY = {
    Notice.ALL_WORDS,
    Notice.COME_CLOSER,
    Notice.STEP_BACK,
    Notice.TOO_NOISY,
    Notice.NOISE_OVER_WORDS,
    Notice.SPEAK_ALOUD,
    Notice.AFTER_TONE,
    Notice.PART_LOST,
    Notice.TOO_LATE,
    Notice.ONE_MORE,
    Notice.SECOND_PERSON,
    Notice.SAY_NUMBER,
}


_PANEL = {"red": Stage.REFUSED, "green": Stage.OPEN, "amber": Stage.RETRY, "blue": Stage.LISTENING}


class Feedback:
    """Turns events at the door into cues, in one language; a person's second try gets advice."""

    def __init__(self, language: Language, sinks: Iterable[Sink]) -> None:
        self._language = language
        self._sinks = tuple(sinks)
        self._tries = 0
        self._person: str | None = None
        self._phrase = ""
        self._one_at_a_time = threading.Lock()  # the fire input tells from a thread of its own

    def ready(self) -> None:
        """Nobody is at the door."""
        self._tries, self._person = 0, None
        self._tell(Cue(Stage.READY, self._language.prompts["ready"]))

    def ask_name(self) -> None:
        """Somebody is there without a badge: ask for a number or name."""
        self._phrase = ""
        self._tell(Cue(Stage.SPEAK, self._language.prompts["name"]))

    def speaking(self) -> None:
        """Somebody is heard, and still reads the phrase."""
        told = f"{self._language.prompts['listening']} {self._phrase}".rstrip()
        self._tell(Cue(Stage.LISTENING, told, self._phrase))

    def judging(self) -> None:
        """The person has ended."""
        self._phrase = ""
        self._tell(Cue(Stage.THINKING, self._language.prompts["thinking"]))

    def tell(self, event: Challenge | Decision) -> None:
        """Show the phrase, whose tone says when to speak, or the decision."""
        if isinstance(event, Decision):
            self._decided(event)
        else:
            self._phrase = event.display
            self._tell(Cue(Stage.SPEAK, self._language.prompt(event.display), event.display))

    def warn(self, notice: Notice) -> None:
        """Show a notice outside an attempt, such as a door that stands open."""
        self._tell(Cue(Stage.RETRY, self._language.notice(notice)))

    def panel(self, colour: str, text: str) -> None:
        """Show what the controller behind the door asks for."""
        self._tell(Cue(_PANEL.get(colour, Stage.READY), text or self._language.prompts["ready"]))

    def _decided(self, decision: Decision) -> None:
        self._phrase = ""
        if decision.person != self._person:
            self._tries, self._person = 0, decision.person
        self._tries = 0 if decision.opens else self._tries + 1
        text = self._language.notice(decision.notice, tries=self._tries, wait_s=decision.wait_s)
        if decision.opens and decision.enrol_again:
            text = f"{text} {self._language.notice(Notice.ENROL_AGAIN)}"
        self._tell(Cue(stage_of(decision), text))

    def _tell(self, cue: Cue) -> None:
        with self._one_at_a_time:
            for sink in self._sinks:
                try:
                    sink.show(cue)
                except Exception as err:  # noqa: BLE001 - a display that is gone must not stop a door
                    log.error(
                        "%s failed, and the door goes on without it: %s",
                        type(sink).__name__,
                        told(err),
                    )


def stage_of(decision: Decision) -> Stage:
    """How a decision is shown: by the class of its outcome and its notice alone."""
    if decision.outcome in OPENING:
        return Stage.OPEN
    if decision.outcome is Outcome.DENIED_FAULT:
        return Stage.FAULT
    return Stage.RETRY if decision.notice in _RETRY else Stage.REFUSED


class TerminalSink:
    """A panel with the state in words and colour, alone in the middle of a screen."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, cue: Cue) -> None:
        colour = {"amber": "yellow"}.get(LIGHTS[cue.stage].colour, LIGHTS[cue.stage].colour)
        panel = Panel(
            Text(cue.text, style="bold", justify="center"),
            title=cue.stage.upper(),
            border_style=colour,
            padding=(1, 4),
        )
        if not self._console.is_terminal:
            self._console.print(panel)
            return
        self._console.clear()
        self._console.print(Align.center(panel, vertical="middle", height=self._console.height - 2))


class LightSink:
    """Sets an LED driver: `set_light(colour, blink_hz)`."""

    def __init__(self, set_light: Callable[[str, float], None]) -> None:
        self._set_light = set_light

    def show(self, cue: Cue) -> None:
        light = LIGHTS[cue.stage]
        self._set_light(light.colour, light.blink_hz)


class EarconSink:
    """Plays short tones: `play(samples)` takes int16 mono at 16 kHz and returns at once."""

    def __init__(self, play: Callable[[Samples], None]) -> None:
        self._play = play

    def show(self, cue: Cue) -> None:
        if (earcon := EARCONS.get(cue.stage)) is not None:
            self._play(waveform(earcon))
