"""The larger words model: a second hearing in English, and the only one in other languages. Opened when it is
first needed, given back when it is not.

Open, it takes some 450 MB (and 80 more meanwhile), which a unit that only listens must not hold. Its files
are checked against the manifest once more as they are read, and it must answer a known recording rightly
before it counts.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence import second_hearing
from device.evidence.phrase import PhraseScore
from device.evidence.vocabulary import Language
from device.model_store.bundle import Bundle
from device.model_store.manifest import BundleError
from device.model_store.sessions import give_memory_back
from device.models.second_words_answers import ANSWERS_ROLE, SecondAnswers
from device.models.self_test import RECORDINGS, recordings_of
from device.models.words import languages
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, ROLE, Transcriber
from device.models.words.whisper_onnx import OnnxWhisper
from device.settings import SecondWords as WordsAgain
from device.settings import Settings, WordsEngine
from sync.plain_words import told

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE_S = 5.0
"""Nobody at a door waits longer: the first hearing stays as it is, and the next finds the model open."""
KEPT_S = 60.0
"""How long it stays open after its last use: the second phrase, or the next of a queue, finds it open."""


def heard_twice(bundle: Bundle) -> bool:
    """Whether a verified bundle has the larger model, and both models are those that are heard together."""
    roles = {entry.role for entry in bundle.manifest.files}
    there = {ROLE, BASE_ROLE, BASE_ENCODER_ROLE, ANSWERS_ROLE} <= roles
    return there and second_hearing.fits(bundle.version(ROLE), bundle.version(BASE_ROLE))


def knows(bundle: Bundle, language: Language) -> bool:
    """Whether a verified bundle has the model that hears `language`, as it was fitted; English is always
    heard."""
    if language is Language.ENGLISH:
        return True
    return heard_twice(bundle) and bundle.version(BASE_ROLE) == languages.FITTED_ON


class SecondWords:
    """`device.evidence.judge.SecondWordsCheck`. Safe to call from several threads, which take turns."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int,
        folder: Path = RECORDINGS,
        kept_s: float = KEPT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`kept_s`: how long it stays open after its last use; infinite for a model that always must be."""
        self.version = bundle.version(BASE_ROLE)
        self._bundle = bundle
        self._threads = threads
        self._folder = folder
        self.patience_s = patience_s
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="again")
        self._kept_s = kept_s
        self._answers: SecondAnswers | None = None
        self._refused = ""
        self._opened: dict[Language, Transcriber] = {}
        """One model in memory, told to hear each language that was asked for; English first."""
        self._whisper: OnnxWhisper
        self._idle: threading.Timer | None = None
        self._one_at_a_time = threading.Lock()

    def score(self, wave: Wave, phrase: str) -> PhraseScore:
        """As `Transcriber.score`. Raises DeviceError when the model is not what it must be, fails, or
        takes longer than anybody waits."""
        return self.ask(wave, lambda model, own: model.score(own, phrase), self.patience_s)

    def ask(
        self,
        wave: Wave,
        question: Callable[[Transcriber, Wave], T],
        patience_s: float,
        language: Language = Language.ENGLISH,
    ) -> T:
        """What `question` finds, asked with the model and a copy of `wave`. Raises as `score`."""
        own = wave.copy()  # the caller overwrites its own, also where this goes on
        try:
            work = self._pool.submit(self._asked_of, own, question, language)
        except RuntimeError as err:  # closed, or no thread left
            own[:] = 0.0
            raise DeviceError("the larger words model cannot begin: closed, or no thread is left") from err
        try:
            return work.result(patience_s)
        except TimeoutError as err:
            raise DeviceError(f"the larger words model took longer than {patience_s:g} s") from err
        except CancelledError as err:
            raise DeviceError("the larger words model is closed: the unit is stopping") from err
        finally:
            if work.cancel():  # it never began, so it overwrites nothing itself
                own[:] = 0.0

    def _asked_of(self, own: Wave, question: Callable[[Transcriber, Wave], T], language: Language) -> T:
        try:
            with self._one_at_a_time:
                self._stop_waiting()
                try:
                    return question(self._model(language), own)
                finally:
                    self._wait()
        finally:
            own[:] = 0.0

    def open_soon(self, language: Language) -> None:
        """Open the model in the background, for an answer that is about to be given."""
        with contextlib.suppress(RuntimeError):  # closed, or no thread left: the answer will say so
            self._pool.submit(self._opened_for, language)

    def _opened_for(self, language: Language) -> None:
        try:
            self.examine(language)
        except Exception as err:  # noqa: BLE001 - nobody waits for this; the answer itself will fail
            log.warning("the larger words model cannot be opened: %s", told(err))

    @property
    def opened(self) -> bool:
        """Whether the model is in memory now."""
        return bool(self._opened)

    def examine(self, language: Language = Language.ENGLISH) -> None:
        """Raises DeviceError unless the model opens here and answers rightly."""
        with self._one_at_a_time:
            self._stop_waiting()
            try:
                self._model(language)
            finally:
                self._wait()

    def release(self) -> None:
        """Give the memory back; the next call opens the model again."""
        with self._one_at_a_time:
            self._stop_waiting()
            if self._opened:
                for model in self._opened.values():
                    model.close()
                self._opened = {}
                give_memory_back()

    def close(self) -> None:
        """Wait for what still runs, and give the memory back."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.release()

    def _model(self, language: Language) -> Transcriber:
        if self._refused:
            raise DeviceError(self._refused)
        if not self._opened:
            model = self._open()
            opened = Transcriber(model, version=self.version, calibration=self._bundle.calibration(BASE_ROLE))
            try:
                self._examined(opened)
            except DeviceError:
                opened.close()
                raise
            self._whisper, self._opened = model, {Language.ENGLISH: opened}
        if language not in self._opened:
            self._opened[language] = languages.transcriber(self._whisper, self.version, language)
        return self._opened[language]

    def _examined(self, opened: Transcriber) -> None:
        """Once in a process: the files are the same whenever they are opened."""
        if self._answers is not None:
            return
        answers = self._asked()
        if not answers.right(opened, recordings_of(answers.recordings, self._folder)):
            self._refused = (
                "the larger words model does not answer as it must on this machine, so nothing is heard a "
                "second time; run `ostiary models build --only words-base`"
            )
            raise DeviceError(self._refused)
        self._answers = answers

    def _open(self) -> OnnxWhisper:
        files = self._bundle.read(BASE_ENCODER_ROLE), self._bundle.read(BASE_ROLE)
        return OnnxWhisper(*files, threads=self._threads)

    def _asked(self) -> SecondAnswers:
        answers = SecondAnswers.from_bytes(self._bundle.read(ANSWERS_ROLE))
        for role in (BASE_ENCODER_ROLE, BASE_ROLE):
            if answers.files.get(role) != self._bundle.manifest.entry(role).sha256:
                raise BundleError(
                    f"the answers are not about the bundle's {role}; run `ostiary models build --only {role}`"
                )
        return answers

    def _wait(self) -> None:
        if math.isinf(self._kept_s):
            return
        self._idle = threading.Timer(self._kept_s, self.release)
        self._idle.daemon = True
        self._idle.start()

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class OnlyHearing:
    """`device.evidence.judge.WordsCheck` in a language that the usual model does not know."""

    def __init__(self, words: SecondWords, language: Language, patience_s: float) -> None:
        self.version = words.version
        self._words = words
        self._language = language
        self._patience_s = patience_s

    def score(self, wave: Wave, phrase: str) -> PhraseScore:
        """As `Transcriber.score`; raises as `SecondWords.score`."""
        return self._asked(wave, lambda model, own: model.score(own, phrase))

    def transcript(self, wave: Wave, vocabulary: Collection[str]) -> str:
        """As `Transcriber.transcript`; raises as `SecondWords.score`."""
        return self._asked(wave, lambda model, own: model.transcript(own, vocabulary))

    def open_soon(self) -> None:
        """The phrase is about to be shown."""
        self._words.open_soon(self._language)

    def _asked(self, wave: Wave, question: Callable[[Transcriber, Wave], T]) -> T:
        return self._words.ask(wave, question, self._patience_s, self._language)


def second_words(bundle: Bundle, settings: Settings) -> SecondWords | None:
    """The model of the second hearing, where settings and bundle have one."""
    chosen = settings.judge
    if chosen.second_words is WordsAgain.NONE or chosen.words is not WordsEngine.ONNX:
        return None
    # The first hearing takes its part of the time that is waited for a judgement.
    patience_s = min(PATIENCE_S, chosen.timeout_s / 2.0)
    if not heard_twice(bundle):
        return None
    kept_s = KEPT_S if settings.door.phrases is Language.ENGLISH else math.inf
    return SecondWords(bundle, chosen.threads, patience_s=patience_s, kept_s=kept_s)


def other_words(
    second: SecondWords | None, bundle: Bundle, settings: Settings
) -> dict[Language, OnlyHearing]:
    """By language, what hears it beside English on the model of the second hearing, `second`."""
    if second is None:
        return {}
    patience_s = settings.judge.timeout_s
    found = [one for one in Language if one is not Language.ENGLISH and knows(bundle, one)]
    return {one: OnlyHearing(second, one, patience_s) for one in found}
