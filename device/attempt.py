"""One answer to a challenge: judged at its first pause, while the endpointer is still making sure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device.audio import (
    AudioSettings,
    AudioSource,
    Ended,
    Frame,
    QualityError,
    Refused,
    SilenceBegan,
    SilenceError,
    SpeechResumed,
    SpeechStarted,
    Utterance,
    listen,
)
from device.judge import Evidence, Judge, JudgeError

Heard: TypeAlias = Evidence | Exception
"""What the judge found, or why there was nothing to judge."""

_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the evidence, and when its speech began, in seconds of the source."""

    heard: Heard
    speech_began_s: float


class Ear:
    """Hears one answer at a time. A judgement starts at the first pause and is void if speech goes on."""

    def __init__(self, judge: Judge, settings: AudioSettings, timeout_s: float) -> None:
        self._judge = judge
        self._settings = settings
        self._timeout_s = timeout_s
        # A void judgement may still be running when the next one starts; a third would only queue.
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="attempt")

    def hear(
        self,
        source: AudioSource,
        phrase: str,
        template: npt.NDArray[np.float32] | None,
        *,
        start_within_s: float,
        stop: threading.Event,
        ready: Callable[[], None],
    ) -> Answer:
        """The first utterance on `source`. Every failure comes back as `heard`: somebody decides on it.

        `ready` is called when the first frame is here: a phrase shown before that loses its first word.
        """
        quiet = threading.Event()
        began_s = 0.0
        heard: Heard = SilenceError("Nothing was heard. Please say the phrase on the display.")
        # The deadline covers silence and the longest speech we keep; the policy checks the start itself.
        longest_s = start_within_s + self._settings.endpointer.max_speech_s + 2.0
        deadline = threading.Timer(start_within_s + 0.5, quiet.set)
        deadline.daemon = True
        last = threading.Timer(longest_s, quiet.set)
        last.daemon = True
        running: Future[Evidence] | None = None
        halt = _Either(stop, quiet)
        deadline.start()
        last.start()
        try:
            for event in listen(_Announcing(source, ready), halt, self._settings):
                if isinstance(event, SpeechStarted):
                    deadline.cancel()
                    began_s = event.at_s
                elif isinstance(event, SilenceBegan):
                    running = self._start(event.utterance, phrase, template)
                elif isinstance(event, SpeechResumed):
                    running = None
                elif isinstance(event, Ended):
                    running = running or self._start(event.utterance, phrase, template)
                    heard = self._finish(running)
                    break
                elif isinstance(event, Refused):
                    heard = event.error
                    break
        except Exception as err:  # noqa: BLE001 - a lost microphone and a broken one both end in a decision
            heard = err
        finally:
            deadline.cancel()
            last.cancel()
        return Answer(heard, began_s)

    def close(self) -> None:
        """Wait for what still runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, utterance: Utterance, phrase: str, template: npt.NDArray[np.float32] | None
    ) -> Future[Evidence]:
        """Judge in the background; the utterance is overwritten when that is done, needed or not."""
        future = self._pool.submit(self._judge, utterance, phrase, template)
        future.add_done_callback(lambda _: utterance.wipe())
        return future

    def _finish(self, running: Future[Evidence]) -> Heard:
        try:
            return running.result(timeout=self._timeout_s)
        except TimeoutError:
            return JudgeError(f"no judgement within {self._timeout_s:g} s; run `ostiary doctor`")
        except Exception as err:  # noqa: BLE001 - the policy turns every exception into a denial
            return err


class _Announcing:
    """A source that says when it can be heard."""

    def __init__(self, source: AudioSource, ready: Callable[[], None]) -> None:
        self._source = source
        self._ready = ready

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        waiting = True
        for frame in self._source.frames(stop):
            if waiting:
                waiting = False
                self._ready()
            yield frame


class _Either(threading.Event):
    """Set when either of two events is, for a source that takes one."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        super().__init__()
        self._both = (first, second)

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._both)

    def wait(self, timeout: float | None = None) -> bool:
        """Like Event.wait, looking at the second event every 20 ms."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _TICK_S if deadline_s is None else deadline_s - time.monotonic()
            if left_s <= 0.0:
                return False
            self._both[0].wait(min(left_s, _TICK_S))
        return True


def judge_file(
    load: Callable[[], Utterance], judge: Judge, phrase: str, template: npt.NDArray[np.float32] | None
) -> Heard:
    """The evidence of one recording, or why there is none."""
    try:
        utterance = load()
    except QualityError as err:
        return err
    try:
        return judge(utterance, phrase, template)
    except JudgeError as err:
        return err
    finally:
        utterance.wipe()
