"""Runs the three checks side by side and reports what they found. It informs; the policy decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Quality, Utterance
from device.errors import DeviceError

T = TypeVar("T")

Wave = npt.NDArray[np.float32]
"""Mono speech at 16 kHz in [-1, 1), shape (n,)."""


class JudgeError(DeviceError):
    """A check could not be made, so there is no evidence and the door stays locked."""


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """Whether the expected words were said. `transcript` explains; only `llr` counts."""

    llr: float
    transcript: str


class WordsCheck(Protocol):
    version: str

    def score(self, wave: Wave, phrase: str) -> PhraseScore: ...


class SpeakerCheck(Protocol):
    version: str

    def embed(self, wave: Wave) -> npt.NDArray[np.float32]: ...

    def template(self, embeddings: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]: ...

    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float: ...


class SpoofCheck(Protocol):
    version: str

    def llr(self, wave: Wave) -> float: ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock milliseconds of each check, and of all of them together (they overlap)."""

    words_ms: float
    speaker_ms: float
    spoof_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks found. LLRs are natural-log, calibrated; positive speaks for the person.

    `speaker_llr` is None when nobody was claimed or the person is not enrolled.
    """

    phrase_llr: float
    speaker_llr: float | None
    spoof_llr: float
    transcript: str
    quality: Quality
    timings: Timings
    model_versions: tuple[str, ...] = field(default=())


class Judge:
    """Three checks, three threads. ONNX Runtime and whisper.cpp release the interpreter while they work."""

    def __init__(self, words: WordsCheck, speaker: SpeakerCheck, spoof: SpoofCheck) -> None:
        self._words = words
        self.speaker = speaker
        self.spoof = spoof
        self._pool = ThreadPoolExecutor(max_workers=3, thread_name_prefix="judge")

    @property
    def model_versions(self) -> tuple[str, ...]:
        return (self._words.version, self.speaker.version, self.spoof.version)

    def __call__(
        self, utterance: Utterance, phrase: str, template: npt.NDArray[np.float32] | None
    ) -> Evidence:
        """Judge one utterance against `phrase` and `template` (shape (192,), or None).

        Raises JudgeError when any check fails: partial evidence would invite a policy to guess.
        """
        started = time.perf_counter()
        wave = utterance.wave()
        words = self._pool.submit(_timed, lambda: self._words.score(wave, phrase))
        embedding = self._pool.submit(_timed, lambda: self.speaker.embed(wave))
        spoof = self._pool.submit(_timed, lambda: self.spoof.llr(wave))
        try:
            (phrase_score, words_ms), (probe, speaker_ms), (spoof_llr, spoof_ms) = (
                words.result(),
                embedding.result(),
                spoof.result(),
            )
        except Exception as err:  # whatever a check raised, the answer is: no evidence
            _settle((words, embedding, spoof))
            raise JudgeError(f"a check failed ({type(err).__name__}: {err}); run `ostiary doctor`") from err
        finally:
            wave[:] = 0.0
        speaker_llr = None if template is None else self.speaker.llr(probe, template)
        probe[:] = 0.0
        return Evidence(
            phrase_llr=phrase_score.llr,
            speaker_llr=speaker_llr,
            spoof_llr=spoof_llr,
            transcript=phrase_score.transcript,
            quality=utterance.quality,
            timings=Timings(words_ms, speaker_ms, spoof_ms, (time.perf_counter() - started) * 1e3),
            model_versions=self.model_versions,
        )

    def close(self) -> None:
        """Wait for running checks and release the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), (time.perf_counter() - started) * 1e3


def _settle(futures: Sequence[Future[Any]]) -> None:
    """Let every check finish before its input is overwritten."""
    for future in futures:
        future.exception()
