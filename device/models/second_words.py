"""The larger words model, for a second hearing: opened when it is first needed, given back when it is not.

Open, it takes some 450 MB (and 80 more meanwhile), which a unit that only listens must not hold. Its files
are checked against the manifest once more as they are read, and it must answer a known recording rightly
before it counts.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence import second_hearing
from device.evidence.phrase import PhraseScore
from device.model_store.bundle import Bundle
from device.model_store.manifest import BundleError
from device.model_store.sessions import give_memory_back
from device.models.second_words_answers import ANSWERS_ROLE, SecondAnswers
from device.models.self_test import RECORDINGS, recordings_of
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, ROLE, Transcriber
from device.models.words.whisper_onnx import OnnxWhisper

PATIENCE_S = 5.0
"""Nobody at a door waits longer: the first hearing stays as it is, and the next finds the model open."""
KEPT_S = 60.0
"""How long it stays open after its last use: the second phrase, or the next of a queue, finds it open."""


def heard_twice(bundle: Bundle) -> bool:
    """Whether a verified bundle has the larger model, and both models are those that are heard together."""
    roles = {entry.role for entry in bundle.manifest.files}
    there = {ROLE, BASE_ROLE, BASE_ENCODER_ROLE, ANSWERS_ROLE} <= roles
    return there and second_hearing.fits(bundle.version(ROLE), bundle.version(BASE_ROLE))


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
        self.version = bundle.version(BASE_ROLE)
        self._bundle = bundle
        self._threads = threads
        self._folder = folder
        self.patience_s = patience_s
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="again")
        self._kept_s = kept_s
        self._answers: SecondAnswers | None = None
        self._refused = ""
        self._opened: Transcriber | None = None
        self._idle: threading.Timer | None = None
        self._one_at_a_time = threading.Lock()

    def score(self, wave: Wave, phrase: str) -> PhraseScore:
        """As `Transcriber.score`. Raises DeviceError when the model is not what it must be, fails, or
        takes longer than anybody waits."""
        own = wave.copy()  # the caller overwrites its own, also where this goes on
        try:
            work = self._pool.submit(self._score, own, phrase)
        except RuntimeError as err:  # closed, or no thread left
            own[:] = 0.0
            raise DeviceError("the larger words model cannot begin: closed, or no thread is left") from err
        try:
            return work.result(self.patience_s)
        except TimeoutError as err:
            raise DeviceError(f"the larger words model took longer than {self.patience_s:g} s") from err
        except CancelledError as err:
            raise DeviceError("the larger words model is closed: the unit is stopping") from err
        finally:
            if work.cancel():  # it never began, so it overwrites nothing itself
                own[:] = 0.0

    def _score(self, own: Wave, phrase: str) -> PhraseScore:
        try:
            with self._one_at_a_time:
                self._stop_waiting()
                try:
                    return self._model().score(own, phrase)
                finally:
                    self._wait()
        finally:
            own[:] = 0.0

    @property
    def opened(self) -> bool:
        """Whether the model is in memory now."""
        return self._opened is not None

    def examine(self) -> None:
        """Raises DeviceError unless the model opens here and answers rightly."""
        with self._one_at_a_time:
            self._stop_waiting()
            try:
                self._model()
            finally:
                self._wait()

    def release(self) -> None:
        """Give the memory back; the next call opens the model again."""
        with self._one_at_a_time:
            self._stop_waiting()
            if self._opened is not None:
                self._opened.close()
                self._opened = None
                give_memory_back()

    def close(self) -> None:
        """Wait for what still runs, and give the memory back."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.release()

    def _model(self) -> Transcriber:
        if self._refused:
            raise DeviceError(self._refused)
        if self._opened is None:
            opened = self._open()
            try:
                self._examined(opened)
            except DeviceError:
                opened.close()
                raise
            self._opened = opened
        return self._opened

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

    def _open(self) -> Transcriber:
        files = self._bundle.read(BASE_ENCODER_ROLE), self._bundle.read(BASE_ROLE)
        model = OnnxWhisper(*files, threads=self._threads)
        return Transcriber(model, version=self.version, calibration=self._bundle.calibration(BASE_ROLE))

    def _asked(self) -> SecondAnswers:
        answers = SecondAnswers.from_bytes(self._bundle.read(ANSWERS_ROLE))
        for role in (BASE_ENCODER_ROLE, BASE_ROLE):
            if answers.files.get(role) != self._bundle.manifest.entry(role).sha256:
                raise BundleError(
                    f"the answers are not about the bundle's {role}; run `ostiary models build --only {role}`"
                )
        return answers

    def _wait(self) -> None:
        self._idle = threading.Timer(self._kept_s, self.release)
        self._idle.daemon = True
        self._idle.start()

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
