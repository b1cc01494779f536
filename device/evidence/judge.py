"""Runs the three checks side by side and reports what they found. It informs; the policy decides."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.coughs import coughs
from device.audio.utterance import Quality, Utterance, Wave
from device.errors import DeviceError
from device.evidence import conditioned, second_hearing
from device.evidence.clicked import Lived, LiveFinding, lived
from device.evidence.enrolled import HeardByNewer, HeardVoice
from device.evidence.gallery import Galleries, Gallery, Identification
from device.evidence.phrase import PhraseScore
from device.evidence.vocabulary import Language
from device.evidence.voice import at_the_door, followed, in_noise
from device.evidence.voice.held import Generations, Voice, lower_llr
from device.liveness import NO_CONTEXT_EVIDENCE, ContextEvidence
from device.liveness.consistency import ASKED_BELOW_LLR, Embedder
from device.liveness.threats.known import Match
from sync.plain_words import told

T = TypeVar("T")
log = logging.getLogger(__name__)


Reference: TypeAlias = npt.NDArray[np.float32] | Voice | Gallery | Galleries | None
"""What a voice is held against: one template of shape (n,), everybody in galleries, or nobody."""


class JudgeError(DeviceError):
    """A check could not be made, so there is no evidence and the door stays locked."""


class SecondWordsCheck(Protocol):
    """A larger words model (`device/models/second_words.py`)."""

    version: str

    def score(self, wave: Wave, phrase: str) -> PhraseScore: ...


class WordsCheck(SecondWordsCheck, Protocol):
    def transcript(self, wave: Wave, vocabulary: Collection[str]) -> str: ...


class OtherWordsCheck(WordsCheck, Protocol):
    """Of another language than English; not open all the time."""

    def open_soon(self) -> None: ...


class SpeakerCheck(Protocol):
    version: str

    def embed(self, wave: Wave) -> npt.NDArray[np.float32]: ...

    def template(self, embeddings: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]: ...

    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float: ...


class SpoofCheck(Protocol):
    version: str

    def evidence(self, wave: Wave) -> LiveFinding: ...


class ContextCheck(Protocol):
    """Looks at what surrounds an utterance (`device/liveness/context.py`)."""

    def look(self, wave: Wave) -> ContextEvidence: ...

    def consistency_llr(self, speaker: Embedder, utterance: Utterance, wave: Wave) -> float | None: ...


class ThreatCheck(Protocol):
    """What the unit was warned of (`device/liveness/threats/known.py`)."""

    def match(self, print_values: bytes) -> Match | None: ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock milliseconds of each check, and of all of them together (they overlap)."""

    words_ms: float
    speaker_ms: float
    spoof_ms: float
    total_ms: float
    context_ms: float = 0.0
    """The replay memory; the voice's constancy is part of `speaker_ms`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks found. LLRs are natural-log, calibrated; positive speaks for the person.
    `speaker_llr` is None when the person claimed is not enrolled, or nobody was there to search among."""

    phrase_llr: float
    speaker_llr: float | None
    spoof_llr: float
    transcript: str
    quality: Quality
    timings: Timings
    model_versions: tuple[str, ...] = field(default=())
    identified: Identification | None = None
    """Who it was that `speaker_llr` is about, when nobody was claimed and a gallery was searched."""
    context: ContextEvidence = NO_CONTEXT_EVIDENCE
    """What speaks for a live person beside the network, each for itself."""
    unclicked_llr: float | None = None
    """What the live check says of the same sound without the clicks in its pauses. It opens nothing; None
    where there are none, or where they would change nothing."""
    coughs: int = 0
    """Fits of coughing in it, looked for where the words fell short. They open nothing."""
    live_kinds: Mapping[str, float] = field(default_factory=dict)
    """What led to `spoof_llr`, kind by kind: for the log, so that refusals can be told apart."""
    operating_points: Mapping[str, float] = field(default_factory=dict)
    """Thresholds for `spoof_llr` by name, as the detector that scored knows them."""
    print_values: bytes = field(default=b"", repr=False)
    """How the detector saw this attempt, to be compared with others; empty where it does not say."""
    threat: Match | None = None
    """What this is alike to of all that the unit was warned of."""
    heard: HeardByNewer | None = field(default=None, repr=False, compare=False)
    """The same voice as the speaker model that is to follow hears it; take it or drop it."""
    voice: HeardVoice | None = field(default=None, repr=False, compare=False)
    """The voice itself, where a voiceprint may follow it; take it or drop it."""


class Judge:
    """Three checks, three threads. ONNX Runtime and whisper.cpp release the interpreter while they work."""

    def __init__(
        self,
        words: WordsCheck,
        speaker: SpeakerCheck,
        spoof: SpoofCheck,
        context: ContextCheck | None = None,
        successor: SpeakerCheck | None = None,
        predecessor: SpeakerCheck | None = None,
        second_words: SecondWordsCheck | None = None,
        other_words: Mapping[Language, OtherWordsCheck] | None = None,
    ) -> None:
        """`speaker` enrols. Either a successor or a predecessor stands beside it, or neither. `words` and
        `second_words` hear English, `other_words` the other languages that this unit can hear."""
        self.words = words
        self._other_words = other_words or {}
        self.speaker = speaker
        self.older = speaker if successor is not None else predecessor
        self.newer = successor if successor is not None else speaker
        self.spoof = spoof
        self._second_words = second_words
        self._context = context
        self._threats: ThreatCheck | None = None
        self._conditioned = conditioned.shipped()
        self._later = ThreadPoolExecutor(max_workers=1, thread_name_prefix="newer")
        self._closed = threading.Event()  # shared with every copy of this judge

    def with_context(self, context: ContextCheck) -> Judge:
        """The same judge, models and threads, with another context check: that of a door has a memory."""
        other = copy.copy(self)
        other._context = context
        return other

    def warned(self, threats: ThreatCheck) -> Judge:
        """The same judge, which also says what an attempt is alike to of what the unit was warned of."""
        other = copy.copy(self)
        other._threats = threats
        return other

    def hears(self, language: Language) -> bool:
        return language is Language.ENGLISH or language in self._other_words

    def open_soon(self, language: Language) -> None:
        """An answer in `language` is about to be given."""
        if language in self._other_words:
            self._other_words[language].open_soon()

    def _words_in(self, language: Language) -> WordsCheck:
        """Raises JudgeError where nothing can be heard in `language`: no other is heard instead."""
        if not self.hears(language):
            raise JudgeError(f"this unit cannot hear {language.name.capitalize()}; run `ostiary doctor`")
        return self.words if language is Language.ENGLISH else self._other_words[language]

    def transcript(
        self, utterance: Utterance, vocabulary: Collection[str], language: Language = Language.ENGLISH
    ) -> str:
        """What was said, for a spoken claim: words outside `vocabulary`, digits and letters are left out.
        Raises JudgeError when it cannot be told."""
        words = self._words_in(language)
        wave = utterance.wave()
        try:
            return words.transcript(wave, vocabulary)
        except Exception as err:  # whatever the model raised, nobody was named
            raise JudgeError(f"nothing could be heard: {told(err)}") from err
        finally:
            wave[:] = 0.0

    @property
    def generations(self) -> Generations:
        return Generations(None if self.older is None else self.older.version, self.newer.version)

    @property
    def model_versions(self) -> tuple[str, ...]:
        return (self.words.version, self.speaker.version, self.spoof.version)

    def __call__(
        self,
        utterance: Utterance,
        phrase: str,
        template: Reference,
        over: Callable[[], bool] = lambda: True,
        language: Language = Language.ENGLISH,
    ) -> Evidence:
        """Judge one utterance against `phrase`, said in `language`, and `template`. `over` is asked before a
        second hearing, and may take its time: False where speech went on and nobody waits for this judgement.
        Raises JudgeError when any check fails: partial evidence would invite a guess."""
        if self._closed.is_set():
            raise JudgeError("the checks are closed: the unit is stopping")
        hearing = self._words_in(language)
        started = time.perf_counter()
        wave = utterance.wave()
        growing = isinstance(template, Voice) and template.grows
        heard = self._heard_later(wave.copy()) if growing else None
        # For one judgement: what a thread frees the C library keeps for it, until it ends (docs/soak.md).
        pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="judge")
        try:
            words = pool.submit(_timed, lambda: hearing.score(wave, phrase))
            voice = pool.submit(_timed, lambda: self._voice(utterance, wave, template))
            spoof = pool.submit(_timed, lambda: self.lived(wave, utterance.quality))
            context = pool.submit(_timed, lambda: self._in_context(wave))
            phrase_score, words_ms = words.result()
            (speaker_llr, identified, consistency_llr, said), speaker_ms = voice.result()
            (live, live_llr, unclicked_llr, broken), spoof_ms = spoof.result()
            found, context_ms = context.result()
            twice, waited_ms, more_ms = None, 0.0, 0.0
            again = self._second_words is not None and language is Language.ENGLISH
            if again and second_hearing.asked(phrase_score.llr):
                wanted, waited_ms = _timed(over)
                if wanted:
                    twice, more_ms = _timed(lambda: self._again(wave, phrase))
            if twice is not None:
                phrase_score = second_hearing.both(phrase_score, twice)
            short = phrase_score.llr < second_hearing.ASKED_BELOW_LLR
            coughed = len(coughs(wave)) if short else 0
        except Exception as err:  # whatever a check raised, the answer is: no evidence
            if heard is not None:
                heard.drop()
            raise JudgeError(f"a check failed: {told(err)}; run `ostiary doctor`") from err
        finally:
            pool.shutdown()  # every check ends before its input is overwritten
            wave[:] = 0.0
        print_values = getattr(live, "print_values", b"")
        return Evidence(
            phrase_llr=phrase_score.llr,
            speaker_llr=speaker_llr,
            spoof_llr=live_llr,
            unclicked_llr=unclicked_llr,
            coughs=coughed,
            live_kinds=live.kinds(),
            transcript=phrase_score.transcript,
            quality=replace(utterance.quality, filled=utterance.quality.filled or broken),
            timings=Timings(
                words_ms + more_ms,
                speaker_ms,
                spoof_ms,
                (time.perf_counter() - started) * 1e3 - waited_ms,
                context_ms,
            ),
            model_versions=self._versions_for(template, hearing.version, twice is not None),
            heard=heard,
            voice=said,
            identified=identified,
            context=replace(found, consistency_llr=consistency_llr),
            operating_points=self._conditioned.points(
                self.spoof.version, getattr(self.spoof, "operating_points", {})
            ),
            print_values=print_values,
            threat=self._threats.match(print_values) if self._threats and print_values else None,
        )

    def _again(self, wave: Wave, phrase: str) -> PhraseScore | None:
        """What a second hearing makes of the words; None where it fails, and the first stays as it is."""
        try:
            return None if self._second_words is None else self._second_words.score(wave, phrase)
        except Exception as err:  # noqa: BLE001 - also a lack of memory: the first hearing stands
            log.warning("nothing is heard a second time: %s", told(err))
            return None

    def _heard_later(self, wave: Wave) -> HeardByNewer:
        def work() -> npt.NDArray[np.float32]:
            try:
                return self.newer.embed(wave)
            finally:
                wave[:] = 0.0

        return HeardByNewer(self._later.submit(work))

    def _speaker(self, model: str) -> SpeakerCheck:
        for one in (self.speaker, self.newer, self.older):
            if one is not None and one.version == model:
                return one
        raise JudgeError("no model of this unit made that voiceprint; enrol this person again")

    def _versions_for(self, template: Reference, words: str, twice: bool) -> tuple[str, ...]:
        _, speaker, spoof = self.model_versions
        more = (self._second_words.version,) if twice and self._second_words is not None else ()
        if not isinstance(template, Voice):
            return words, speaker, spoof, *more
        grown = [template.grown.model] if template.grown else []
        return words, template.model, *grown, spoof, *more

    def live_llr(self, wave: Wave, quality: Quality) -> float:
        """The LLR of a live human alone, as the door has it; raises what the check raises."""
        return self._placed(self.spoof.evidence(wave), quality)

    def lived(self, wave: Wave, quality: Quality) -> Lived:
        """The live check alone, as the door has it; raises what the check raises."""
        return lived(lambda sound: self._found(sound, quality), wave)

    def _found(self, wave: Wave, quality: Quality) -> tuple[LiveFinding, float]:
        finding = self.spoof.evidence(wave)
        return finding, self._placed(finding, quality)

    def _placed(self, live: LiveFinding, quality: Quality) -> float:
        return self._conditioned.llr(self.spoof.version, live.llr, quality)

    def _voice(
        self, utterance: Utterance, wave: Wave, template: Reference
    ) -> tuple[float | None, Identification | None, float | None, HeardVoice | None]:
        """The voice's LLR, whose it is, whether it is one voice where that is not clear already, and the
        voice itself where it is wanted."""
        llr, identified, said = None, None, None
        if isinstance(template, Voice):
            llr, said = self._voice_llr(wave, utterance.quality, template)
        elif isinstance(template, Gallery | Galleries):
            identified = self._identified(wave, utterance.quality, template)
            llr = None if identified is None else identified.llr
        else:
            quality = utterance.quality
            probe = in_noise.heard(self.speaker, quality, wave)
            llr = None if template is None else in_noise.llr(self.speaker, quality, probe, template)
            probe[:] = 0.0
        consistency_llr = None
        if self._context is not None and llr is not None and llr < ASKED_BELOW_LLR:
            consistency_llr = self._context.consistency_llr(self.speaker, utterance, wave)
        return llr, identified, consistency_llr, said

    def _identified(self, wave: Wave, quality: Quality, people: Gallery | Galleries) -> Identification | None:
        models = people.models if isinstance(people, Galleries) else (self.speaker.version,)
        heard = {}
        for speaker in map(self._speaker, models):
            compared = at_the_door.compared(speaker, quality)
            heard[speaker.version] = (in_noise.heard(speaker, quality, wave), *compared)
        try:
            if isinstance(people, Galleries):
                return people.identify(heard)
            return people.identify(*heard[self.speaker.version])
        finally:
            for probe, *_ in heard.values():
                probe[:] = 0.0

    def _voice_llr(self, wave: Wave, quality: Quality, voice: Voice) -> tuple[float, HeardVoice | None]:
        speaker = self._speaker(voice.model)
        other = (
            None if voice.grown is None else self._later.submit(self._voice_llr, wave, quality, voice.grown)
        )
        try:
            probe = in_noise.heard(speaker, quality, wave)
            llr = at_the_door.llr(speaker, quality, probe, voice)
            llr = followed.raised(speaker, quality, probe, voice, llr)
            said = HeardVoice(probe.copy(), voice.model) if voice.follows else None
            probe[:] = 0.0
        finally:
            if other is not None:
                wait([other])  # before the wave is overwritten
        return (llr if other is None else lower_llr(llr, other.result()[0])), said

    def _in_context(self, wave: Wave) -> ContextEvidence:
        return NO_CONTEXT_EVIDENCE if self._context is None else self._context.look(wave)

    def close(self) -> None:
        """Judge no more. A judgement that is under way ends by itself, threads and all."""
        self._closed.set()
        self._later.shutdown(wait=True)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), (time.perf_counter() - started) * 1e3
