"""One answer to a challenge: judged at its first pause, while the endpointer is still making sure.

An answer that is complete at a pause is handed out at once. What is said after it is still listened to, for
it may hold a duress word.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from device.audio import (
    AudioSettings,
    AudioSource,
    Ended,
    Event,
    Flaw,
    QualityError,
    Refused,
    SilenceBegan,
    SilenceLasts,
    SpeechResumed,
    SpeechStarted,
    Utterance,
    listen,
)
from device.audio.spoiled.own_tone import OwnTones
from device.evidence.announcing import Announcing
from device.evidence.judge import Evidence, Judge, JudgeError, Reference
from device.evidence.vocabulary import Language
from sync.plain_words import told

T = TypeVar("T")

Heard: TypeAlias = Evidence | Exception
"""What the judge found, or why there was nothing to judge."""

_TICK_S = 0.02
_AT_ONCE_S = 0.06
"""Speech that begins so soon after the tone has begun in it."""
_SURE_MS = 500.0
"""Of silence: few go on speaking after it, so a second hearing, which takes long, may begin."""
_LONGEST_PAUSE_S = 30.0
_REST_S = 3.0
"""Longest that is listened on after an answer that was complete at a pause."""
STUCK_AFTER = 6.0
"""A judgement that runs for so many times its time limit will not end."""

log = logging.getLogger(__name__)


def _never(_: object) -> bool:
    """Wait for the end of every utterance."""
    return False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the evidence, and when its speech began, in seconds of the source."""

    heard: Heard
    speech_began_s: float
    rest: Callable[[], str] = lambda: ""
    """Call it once the door has been told. It listens until the utterance is over, _REST_S at most, and gives
    the words of all of it, redacted; empty when nothing followed the answer."""


@dataclass(frozen=True, slots=True)
class AnswerProgress:
    """What to do as an answer goes on."""

    ready: Callable[[], None] = lambda: None
    """The first frame is here: a phrase shown before that loses its first word."""
    speaking: Callable[[], None] = lambda: None
    judging: Callable[[], None] = lambda: None


class _Pause:
    """A pause that may or may not be the end of the answer."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._over = False

    def lasts(self) -> None:
        """Note that it is most likely the end: from now on a judgement may take longer."""
        self._over = self._over or not self._told.is_set()
        self._told.set()

    def void(self) -> None:
        """Speech went on, or the answer is decided: nobody waits for the judgement of this pause."""
        self._told.set()

    def over(self) -> bool:
        """Whether it was the end; waits until that is known."""
        return self._told.wait(_LONGEST_PAUSE_S) and self._over


class Listener:
    """Hears one answer at a time. A judgement starts at the first pause and is void if speech goes on."""

    def __init__(
        self,
        judge: Judge,
        settings: AudioSettings,
        timeout_s: float,
        tones: OwnTones | None = None,
    ) -> None:
        """`tones` are the door's own, where it has a loudspeaker. No speech begins while one sounds; of
        speech that is there right after it, what began in it is kept."""
        self._tones = tones
        self._judge = judge
        self._settings = settings
        self._timeout_s = timeout_s
        # A void judgement may still be running when the next one starts; a third waits.
        self._turns = threading.BoundedSemaphore(2)
        self._running: dict[ThreadPoolExecutor, float] = {}

    def hear(
        self,
        source: AudioSource,
        phrase: str,
        template: Reference,
        *,
        start_within_s: float,
        stop: threading.Event,
        progress: AnswerProgress,
        complete: Callable[[Evidence], bool] = _never,
        lacks_words: Callable[[Evidence], bool] = _never,
        language: Language = Language.ENGLISH,
    ) -> Answer:
        """The first utterance on `source`, judged. Every failure comes back as `heard`, for somebody to
        decide on. At every pause whose judgement is ready, an answer that is `complete` is taken at once,
        and one that `lacks_words` is waited for longer."""
        quiet = threading.Event()
        announcing = Announcing(source, progress.ready, self._tones)
        events = listen(announcing, _Either(stop, quiet), self._settings, hesitant=True)
        heard, began_s, early = self._first(
            events,
            quiet,
            lambda utterance, pause: self._judge(utterance, phrase, template, pause.over, language),
            start_within_s=start_within_s,
            progress=progress,
            complete=complete,
            lacks_words=lacks_words,
        )
        if early:
            return Answer(heard, began_s, lambda: self._rest(events, quiet, phrase, language))
        began_in_tone = self._tones is not None and began_s < announcing.tone_until_s + _AT_ONCE_S
        if began_in_tone and not isinstance(heard, Exception) and lacks_words(heard):
            heard = QualityError(
                Flaw.TOO_EARLY, "The first word fell into the tone. Please begin after the tone."
            )
        return Answer(heard, began_s)

    def name(
        self,
        source: AudioSource,
        vocabulary: Collection[str],
        *,
        start_within_s: float,
        stop: threading.Event,
        progress: AnswerProgress,
        language: Language = Language.ENGLISH,
    ) -> str:
        """What somebody says who is asked for a name or number; empty when nothing could be made of it."""
        quiet = threading.Event()
        heard, _, _ = self._first(
            listen(Announcing(source, progress.ready, self._tones), _Either(stop, quiet), self._settings),
            quiet,
            lambda utterance, _: self._judge.transcript(utterance, vocabulary, language),
            start_within_s=start_within_s,
            progress=progress,
        )
        if isinstance(heard, Exception):
            log.info("no name or number: %s", heard)
        return heard if isinstance(heard, str) else ""

    def stuck(self) -> str:
        """A text when a judgement has run for far longer than is waited for one; empty otherwise."""
        longest_s = max((time.monotonic() - began_s for began_s in list(self._running.values())), default=0.0)
        over = longest_s > STUCK_AFTER * self._timeout_s
        return f"a judgement has not ended for {longest_s:.0f} s" if over else ""

    def close(self) -> None:
        """Wait for what still runs."""
        for pool in list(self._running):
            pool.shutdown()  # its thread also overwrites what was heard, which no future waits for

    def _first(
        self,
        events: Iterator[Event],
        quiet: threading.Event,
        work: Callable[[Utterance, _Pause], T],
        *,
        start_within_s: float,
        progress: AnswerProgress,
        complete: Callable[[Any], bool] = _never,
        lacks_words: Callable[[Any], bool] = _never,
    ) -> tuple[T | Exception, float, bool]:
        """What `work` makes of the first utterance, or what went wrong; when its speech began; and whether
        that was `complete` at a pause, with more of `events` to come. Setting `quiet` ends them."""
        early = False
        began_s = 0.0
        heard: T | Exception = QualityError(
            Flaw.SILENCE, "Nothing was heard. Please say the phrase on the display."
        )
        # The deadline covers silence and the longest speech we keep; the policy checks the start itself.
        longest_s = start_within_s + self._settings.endpointer.max_speech_s + 2.0
        deadline, last = _timer(start_within_s + 0.5, quiet), _timer(longest_s, quiet)
        running: Future[T] | None = None
        pause = _Pause()
        try:
            for event in events:
                if isinstance(event, SpeechStarted):
                    deadline.cancel()
                    began_s = event.at_s
                    progress.speaking()
                elif isinstance(event, SilenceBegan):
                    pause = _Pause()
                    running = self._start(event.utterance, work, pause)
                elif isinstance(event, SilenceLasts):
                    if event.silent_ms >= _SURE_MS:
                        pause.lasts()
                    if running is not None and _says(running, complete):
                        progress.judging()
                        heard, early = running.result(), True
                        break
                    waited = event.silent_ms >= self._settings.endpointer.end_ms
                    if waited and running is not None and _settled(running, lacks_words):
                        progress.judging()
                        heard = self._finish(running)
                        break
                elif isinstance(event, SpeechResumed):
                    pause.void()
                    running = None
                elif isinstance(event, Ended):
                    progress.judging()
                    if running is None:
                        pause = _Pause()
                        running = self._start(event.utterance, work, pause)
                    pause.lasts()
                    heard = self._finish(running)
                    break
                elif isinstance(event, Refused):
                    heard = event.error
                    break
        except Exception as err:  # noqa: BLE001 - a lost microphone and a broken one both end in a decision
            heard = err
        finally:
            pause.void()
            deadline.cancel()
            last.cancel()
        return heard, began_s, early

    def _rest(self, events: Iterator[Event], quiet: threading.Event, phrase: str, language: Language) -> str:
        """The words of the whole utterance, where speech went on after the pause that was answered at."""
        limit = _timer(_REST_S, quiet)
        went_on, longest = False, None
        try:
            for event in events:
                if isinstance(event, SpeechResumed):
                    went_on = True
                elif isinstance(event, SilenceBegan | Ended) and went_on:
                    if longest is not None and longest is not event.utterance:
                        longest.wipe()
                    longest = event.utterance
                if isinstance(event, Ended | Refused):
                    break
            return "" if longest is None else self._judge.transcript(longest, [phrase], language)
        except Exception as err:  # noqa: BLE001 - the door has been told; what followed could not be heard
            log.warning("what followed an answer could not be heard: %s", told(err))
            return ""
        finally:
            limit.cancel()
            if longest is not None:
                longest.wipe()

    def _start(
        self, utterance: Utterance, work: Callable[[Utterance, _Pause], T], pause: _Pause
    ) -> Future[T]:
        """Judge in the background; the utterance is overwritten when that is done, needed or not."""
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attempt")  # it ends as the judge's do
        self._running[pool] = time.monotonic()
        try:
            future = pool.submit(self._in_turn, work, utterance, pause)
        except RuntimeError:  # no thread left
            self._ended(pool, utterance)
            raise
        finally:
            pool.shutdown(wait=False)
        future.add_done_callback(lambda _: self._ended(pool, utterance))
        return future

    def _in_turn(self, work: Callable[[Utterance, _Pause], T], utterance: Utterance, pause: _Pause) -> T:
        with self._turns:
            return work(utterance, pause)

    def _ended(self, pool: ThreadPoolExecutor, utterance: Utterance) -> None:
        utterance.wipe()
        self._running.pop(pool, None)

    def _finish(self, running: Future[T]) -> T | Exception:
        try:
            return running.result(timeout=self._timeout_s)
        except TimeoutError:
            return JudgeError(f"no judgement within {self._timeout_s:g} s; run `ostiary doctor`")
        except Exception as err:  # noqa: BLE001 - the policy turns every exception into a denial
            return err


def _timer(within_s: float, quiet: threading.Event) -> threading.Timer:
    """Sets `quiet` after so long; has begun."""
    timer = threading.Timer(within_s, quiet.set)
    timer.daemon = True
    timer.start()
    return timer


def _says(running: Future[Any], complete: Callable[[Any], bool]) -> bool:
    """Whether a judgement is there, and complete. Its failure is reported when the utterance is over."""
    return running.done() and running.exception() is None and complete(running.result())


def _settled(running: Future[Any], lacks_words: Callable[[Any], bool]) -> bool:
    """Whether the judgement of a pause is there, and no word is missing that might still come."""
    if not running.done():
        return False
    return running.exception() is not None or not lacks_words(running.result())


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
    load: Callable[[], Utterance],
    judge: Judge,
    phrase: str,
    template: Reference,
    language: Language = Language.ENGLISH,
) -> Heard:
    """The evidence of one recording, or why there is none."""
    try:
        utterance = load()
    except QualityError as err:
        return err
    try:
        return judge(utterance, phrase, template, language=language)
    except JudgeError as err:
        return err
    finally:
        utterance.wipe()
