"""Runs the door's own checks over recordings: each file is read once and each embedding kept for the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from device.audio import AudioSettings, Samples, load_utterance
from device.audio.recording import read_recording
from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence.judge import SpoofCheck
from device.evidence.phrase import PhraseScore
from device.model_store.calibration import LLR_LIMIT
from quantize.evaluate.checks.phrase import PhraseScores
from quantize.evaluate.checks.speaker import Embedding
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import PhraseTrial

T = TypeVar("T")


class Embedder(Protocol):
    """Speech to one unit vector; the same voice gives nearby vectors."""

    def embed(self, wave: Wave) -> npt.NDArray[np.float32]: ...


@dataclass(slots=True)
class Reader:
    """Reads recordings as the door hears them and remembers which it would turn away.

    A recording that the audio checks refuse, or whose speech is too short to judge, is taken whole instead,
    so that error rates are not flattered by leaving the difficult ones out; `refused` says which and why.
    `unreadable` are those of which nothing could be judged.
    """

    root: Path
    settings: AudioSettings = field(default_factory=AudioSettings)
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    _speech: dict[str, Samples] = field(default_factory=dict)

    def attempt(self, recording: Recording, work: Callable[[Wave], T]) -> T | None:
        """`work` on the speech in the recording, else on all of it; None when neither can be done."""
        path = self.root / recording.path
        try:
            if recording.path not in self._speech:
                # Four seconds are 128 kB: the speech of a whole evaluation fits in memory.
                self._speech[recording.path] = load_utterance(path, self.settings).samples
            return work(_wave(self._speech[recording.path]))
        except DeviceError as err:
            reason = str(err)
        try:
            done = work(_wave(read_recording(path, self.settings.file)))
        except DeviceError as err:
            self.unreadable[recording.path] = str(err)
            return None
        self.refused[recording.path] = reason
        return done


def _wave(samples: Samples) -> Wave:
    return samples.astype(np.float32) / np.float32(32768.0)


def embed_all(
    embedder: Embedder, recordings: Iterable[Recording], reader: Reader, progress: Callable[[], None]
) -> dict[str, Embedding]:
    """An embedding for every recording that has one; the others are noted in `reader.unreadable`."""
    found: dict[str, Embedding] = {}
    for recording in recordings:
        embedding = reader.attempt(recording, embedder.embed)
        if embedding is not None:
            found[recording.path] = embedding
        progress()
    return found


def spoof_llrs(
    check: SpoofCheck, recordings: Iterable[Recording], reader: Reader, progress: Callable[[], None]
) -> dict[str, float]:
    """The liveness LLR of every recording that has one."""
    found: dict[str, float] = {}
    for recording in recordings:
        live = reader.attempt(recording, check.evidence)
        if live is not None:
            found[recording.path] = live.llr
        progress()
    return found


class PhraseCheck(Protocol):
    """The words check, asked about many phrases at once."""

    def scores(self, wave: Wave, phrases: Sequence[str]) -> list[PhraseScore]: ...

    def ruled_out(self, wave: Wave, phrases: Sequence[str], llr: float) -> list[bool]: ...


def phrase_scores(
    check: PhraseCheck,
    trials: Sequence[PhraseTrial],
    reader: Reader,
    progress: Callable[[], None],
    threshold_llr: float,
) -> dict[str, PhraseScores]:
    """Each recording against its right and its wrong phrases.

    Of the further wrong phrases, those that cannot reach the threshold are not scored but count as refused.
    """
    found: dict[str, PhraseScores] = {}
    for trial in trials:

        def all_of(wave: Wave, trial: PhraseTrial = trial) -> PhraseScores:
            hopeless = check.ruled_out(wave, trial.others, threshold_llr) if trial.others else []
            open_ones = [text for text, out in zip(trial.others, hopeless, strict=True) if not out]
            phrases = [trial.right, trial.wrong, *trial.near, *open_ones]
            right, wrong, *rest = check.scores(wave, phrases)
            llrs = [score.llr for score in rest]
            near = len(trial.near)
            others = (*llrs[near:], *[-LLR_LIMIT] * sum(hopeless))
            return PhraseScores(right.llr, wrong.llr, right.transcript, tuple(llrs[:near]), others)

        scores = reader.attempt(trial.recording, all_of)
        if scores is not None:
            found[trial.recording.path] = scores
        progress()
    return found


class Bars:
    """Progress on standard error, for people: nothing is drawn when it is not a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def bar(self, name: str, total: int) -> Callable[[], None]:
        """A new bar; call what comes back once for every item done."""
        task = self._progress.add_task(name, total=total)
        return lambda: self._progress.advance(task)
