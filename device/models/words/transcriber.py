"""Checks whether the expected words were said: the phrase is known, so it is tested, not transcribed."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.evidence.phrase import (
    MAX_PHRASE_WORDS,
    PhraseScore,
    agreement,
    alternatives,
    forms,
    is_invented,
    normalise,
    pieces,
    plain,
    redact,
    redact_claim,
    unsayable,
)
from device.evidence.vocabulary import Language
from device.evidence.words_around import words_around
from device.model_store.bundle import Bundle
from device.model_store.calibration import LLR_LIMIT, Calibration
from device.model_store.sessions import Runtime
from device.models.words.hearing import Heard, Sentence, SpeechModel, Spoken
from device.models.words.whisper_onnx import OnnxWhisper
from device.settings import WordsEngine

ROLE, ENCODER_ROLE = "words", "words-encoder"
BASE_ROLE, BASE_ENCODER_ROLE = "words-base", "words-base-encoder"
GGML_ROLES = {
    WordsEngine.WHISPER_CPP: "words-ggml",
    WordsEngine.WHISPER_CPP_Q5_1: "words-ggml-q5-1",
    WordsEngine.WHISPER_CPP_BASE: "words-ggml-base",
    WordsEngine.WHISPER_CPP_BASE_Q5_1: "words-ggml-base-q5-1",
}
"""What whisper.cpp opens, by the name under which a unit chooses it."""
ENGINE_ROLES = {WordsEngine.ONNX: ROLE, WordsEngine.WHISPER_BASE: BASE_ROLE, **GGML_ROLES}
MAX_SECONDS = 30.0
MIN_SECONDS = 0.3
MAX_PHRASE_CHARACTERS = 400
WORD_LIMIT_NATS = 8.0
MAX_FORMS = 3
ENOUGH_AGREEMENT = 0.5
LOOP_AGREEMENT = 0.3
LOOP_TOKEN_NATS = -4.0


@dataclass(frozen=True, slots=True)
class Clues:
    """What speaks for and against a phrase, in natural-log units; zero at best but for the worst word."""

    deficit_nats: float
    """Expected phrase below what the model would rather have heard; the whole sentence."""
    worst_token_nats: float
    """The same for the single worst token."""
    worst_word_nats: float
    """Expected word over others of its class in its place, for the word where that is least."""
    mean_word_nats: float
    """The same, for the average word; each counts up to WORD_LIMIT_NATS either way."""
    agreement: float
    """Of the free transcript with the phrase, in [0, 1]."""
    looped: bool
    """The free transcript had to be stopped."""
    invented: bool
    """Nothing was heard, or only what the model makes up."""

    @property
    def credible(self) -> bool:
        """False for silence and inventions, and for a loop that neither says half of the phrase in its
        first round nor leaves each of the phrase's own tokens about as likely as the model's favourite."""
        said = self.agreement >= LOOP_AGREEMENT or self.worst_token_nats > LOOP_TOKEN_NATS
        return not self.invented and not (self.looped and not said)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Weighs the clues into one score, an LLR where it was fitted (docs/adr/0002-phrase-evidence.md)."""

    offset: float = -0.7392
    deficit: float = 0.1075
    worst_token: float = 0.2655
    worst_word: float = 0.2181
    mean_word: float = 0.8623
    agreement: float = 2.8030

    def score(self, clues: Clues) -> float:
        """The weighted sum; each clue is bounded first, for beyond these ends more of it proves no more."""
        return (
            self.offset
            + self.deficit * max(-40.0, clues.deficit_nats)
            + self.worst_token * max(-12.0, clues.worst_token_nats)
            + self.worst_word * clues.worst_word_nats
            + self.mean_word * clues.mean_word_nats
            + self.agreement * min(0.0, clues.agreement - ENOUGH_AGREEMENT)
        )


@dataclass(frozen=True, slots=True)
class _Script:
    """One written form of the phrase, and where its words begin."""

    sentence: Sentence
    starts: tuple[int, ...]
    stop: int
    """Where the last of them ends: after it, words beside the phrase may come."""

    @property
    def own(self) -> slice:
        """The tokens of the phrase itself."""
        return slice(self.starts[0] if self.starts else 0, self.stop)

    def advantages(self, spoken: Spoken) -> list[float]:
        """Of each word that has a class over that class's mean, within WORD_LIMIT_NATS."""
        found = []
        for start, stop in zip(self.starts, (*self.starts[1:], self.stop), strict=True):
            rival = spoken.rival_logprobs[start]
            if rival is not None:
                found.append(_within(math.fsum(spoken.logprobs[start:stop]) - rival))
        return found


class Transcriber:
    """Scores an expected phrase: all its written forms in one pass over the encoded sound, word by word."""

    def __init__(
        self,
        model: SpeechModel,
        *,
        version: str = "whisper",
        calibration: Calibration | None = None,
        language: Language = Language.ENGLISH,
    ) -> None:
        """`model` hears `language`."""
        self.version = version
        self.language = language
        self._model = model
        self._fusion = Fusion()
        self._calibration = calibration or Calibration(1.0, 0.0)
        self._first: dict[str, int] = {}
        # The first call allocates; better now than at the first attempt.
        self._model.listen(
            np.zeros(SAMPLE_RATE_HZ, dtype=np.float32), [Sentence(self._model.tokens(" one"))] * MAX_FORMS
        )

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        threads: int = 2,
        *,
        engine: WordsEngine = WordsEngine.ONNX,
        runtime: Runtime = Runtime.ONNX,
        language: Language = Language.ENGLISH,
    ) -> Transcriber:
        """From a verified bundle; raises BundleError or DeviceError. `runtime` is of ONNX's forms. Clues
        of every engine are weighed as they were fitted for the usual one
        (docs/adr/0002-phrase-evidence.md). Other languages than English are `whisper-base`'s alone."""
        role = ENGINE_ROLES[engine]
        calibration = bundle.calibration(role)
        model: SpeechModel
        if engine in GGML_ROLES:
            # Here, since it loads a library that is not needed otherwise.
            from device.models.words.whisper_cpp import WhisperCpp

            model = WhisperCpp(bundle.path(role), threads=threads)
        else:
            encoder = BASE_ENCODER_ROLE if engine is WordsEngine.WHISPER_BASE else ENCODER_ROLE
            wide = runtime is Runtime.FLOAT
            files = bundle.path(encoder), bundle.path(role)
            model = OnnxWhisper(*files, threads=threads, float_products=wide).hearing(language)
        return cls(model, version=bundle.version(role), calibration=calibration, language=language)

    def score(self, wave: npt.NDArray[np.float32], phrase: str) -> PhraseScore:
        """The calibrated LLR that `phrase` was said in `wave`, and what was heard, redacted. A loop or an
        invented transcript scores lowest. Raises DeviceError on what cannot be judged, and when the model
        fails."""
        return self.scores(wave, [phrase])[0]

    def scores(self, wave: npt.NDArray[np.float32], phrases: Sequence[str]) -> list[PhraseScore]:
        """`score` of each phrase; the sound is encoded once."""
        return [
            PhraseScore(
                max(self.llr(clues), self._among(wave, transcript, phrase)),
                shown := redact(transcript, phrase, self.language),
                agreement(shown, phrase, self.language),
            )
            for phrase, (clues, transcript) in zip(phrases, self.clues_of_many(wave, phrases), strict=True)
        ]

    def _among(self, wave: npt.NDArray[np.float32], transcript: str, phrase: str) -> float:
        """The LLR of `phrase` among words that were heard beside it and may stand there: unless it was
        heard letter for letter, the model weighs it once more between them, its own words only."""
        around = words_around(transcript, phrase, self.language)
        if around is None:
            return -LLR_LIMIT
        before, after = (" ".join(words) for words in (around.before, around.after))
        if around.agreement == 1.0:
            return self.llr(_EXACT)
        scripts = [self._script(form, before, after) for form in forms(plain(phrase), self.language)]
        heard = self._model.listen(wave, [script.sentence for script in scripts])
        said, script = max(zip(heard.sentences, scripts, strict=True), key=lambda pair: pair[0].total)
        return self.llr(_weighed(said, script, heard, around.agreement, among=script.own))

    def llr(self, clues: Clues) -> float:
        """The calibrated LLR of what was found."""
        return self._calibration.llr(self._fusion.score(clues)) if clues.credible else -LLR_LIMIT

    def transcript(self, wave: npt.NDArray[np.float32], vocabulary: Collection[str]) -> str:
        """What was said freely, with words outside `vocabulary` redacted; digits and letters stay. Raises
        DeviceError."""
        _, heard = self.clues(wave, _ANY[self.language])
        return redact_claim(heard, vocabulary, self.language)

    def clues(self, wave: npt.NDArray[np.float32], phrase: str) -> tuple[Clues, str]:
        """The evidence behind a score, and the free transcript, not redacted."""
        return self.clues_of_many(wave, [phrase])[0]

    def clues_of_many(self, wave: npt.NDArray[np.float32], phrases: Sequence[str]) -> list[tuple[Clues, str]]:
        """`clues` of each phrase; the sound is encoded once."""
        for phrase in phrases:
            _check(wave, phrase, self.language)
        phrases = [plain(phrase) for phrase in phrases]
        scripts = [[self._script(form) for form in forms(phrase, self.language)] for phrase in phrases]
        heard = self._model.listen(wave, [script.sentence for one in scripts for script in one])
        transcript = self._model.text(heard.free.tokens)
        spoken = iter(heard.sentences)
        return [
            (self._clues(phrase, transcript, heard, [(next(spoken), script) for script in one]), transcript)
            for phrase, one in zip(phrases, scripts, strict=True)
        ]

    def ruled_out(self, wave: npt.NDArray[np.float32], phrases: Sequence[str], llr: float) -> list[bool]:
        """Which phrases cannot reach `llr`: a bound by each form's first token, far cheaper than a score.
        For counting over very many phrases. The rest of a phrase counts as if it were said perfectly."""
        scripts = [[self._script(form) for form in forms(phrase, self.language)] for phrase in phrases]
        first = {
            (one.sentence.tokens[0], phrase_at): one
            for phrase_at, written in enumerate(scripts)
            for one in written
        }
        kinds = {
            (token, tuple(one.sentence.rivals.get(0, ()))): Sentence(
                (token,), {0: one.sentence.rivals[0]} if 0 in one.sentence.rivals else {}
            )
            for (token, _), one in first.items()
        }
        heard = self._model.listen(wave, list(kinds.values()))
        begun = dict(zip(kinds, heard.sentences, strict=True))
        transcript = self._model.text(heard.free.tokens)
        return [
            words_around(transcript, phrase, self.language) is None and max(
                self.llr(_best_case(begun[one.sentence.tokens[0], tuple(one.sentence.rivals.get(0, ()))], one,
                                    heard, agreement(transcript, phrase, self.language)))
                for one in written
            ) < llr
            for phrase, written in zip(phrases, scripts, strict=True)
        ]  # fmt: skip

    def _script(self, form: str, before: str = "", after: str = "") -> _Script:
        tokens: list[int] = list(self._model.tokens(f" {before}")) if before else []
        starts: list[int] = []
        rivals: dict[int, npt.NDArray[np.intp]] = {}
        for piece in pieces(form):
            own = self._model.tokens(piece)
            written = alternatives(piece, self.language)
            others = {self._first_token(other) for other in written} - set(own[:1])
            if others:
                rivals[len(tokens)] = np.array(sorted(others), dtype=np.intp)
            starts.append(len(tokens))
            tokens.extend(own)
        stop = len(tokens)
        tokens.extend(self._model.tokens(f" {after}") if after else ())
        return _Script(Sentence(tuple(tokens), rivals), tuple(starts), stop)

    def _clues(
        self, phrase: str, transcript: str, heard: Heard, written: Sequence[tuple[Spoken, _Script]]
    ) -> Clues:
        agreed = agreement(transcript, phrase, self.language)
        invented = is_invented(transcript, self.language)
        if agreed == 1.0:
            return replace(_EXACT, looped=heard.looped, invented=invented)
        said, script = max(written, key=lambda pair: pair[0].total)
        return replace(_weighed(said, script, heard, agreed), invented=invented)

    def _first_token(self, piece: str) -> int:
        if piece not in self._first:
            self._first[piece] = self._model.tokens(piece)[0]
        return self._first[piece]

    def close(self) -> None:
        """Release the model."""
        self._model.close()


_ANY = {Language.ENGLISH: "one", Language.GERMAN: "eins"}
"""A word to weigh where nothing is expected."""
_EXACT = Clues(0.0, 0.0, WORD_LIMIT_NATS, WORD_LIMIT_NATS, 1.0, looped=False, invented=False)
"""Of a phrase that was heard letter for letter: there is nothing that the model would rather have heard."""


def _weighed(said: Spoken, script: _Script, heard: Heard, agreed: float, among: slice = slice(None)) -> Clues:
    """What speaks for and against one written form; of its tokens those `among` count."""
    advantages = script.advantages(said)
    return Clues(
        deficit_nats=min(0.0, said.total - heard.free.total),
        worst_token_nats=_worst_token(said, among),
        worst_word_nats=min(advantages, default=WORD_LIMIT_NATS),
        mean_word_nats=math.fsum(advantages) / len(advantages) if advantages else WORD_LIMIT_NATS,
        agreement=agreed,
        looped=heard.looped,
        invented=False,
    )


def _best_case(begun: Spoken, script: _Script, heard: Heard, agreed: float) -> Clues:
    """What a phrase could come to at best after this first token."""
    if agreed == 1.0:
        return _EXACT
    rival, words = begun.rival_logprobs[0], len(script.sentence.rivals)
    worst = WORD_LIMIT_NATS if rival is None else _within(begun.logprobs[0] - rival)
    return Clues(
        deficit_nats=min(0.0, begun.logprobs[0] - heard.free.total),
        worst_token_nats=begun.logprobs[0] - begun.best_logprobs[0],
        worst_word_nats=worst,
        mean_word_nats=WORD_LIMIT_NATS - (WORD_LIMIT_NATS - worst) / max(1, words),
        agreement=agreed,
        looped=False,
        invented=False,
    )


def _within(advantage: float) -> float:
    return max(-WORD_LIMIT_NATS, min(WORD_LIMIT_NATS, advantage))


def _worst_token(spoken: Spoken, among: slice) -> float:
    """How far the least likely token lies below the model's favourite at its place."""
    own, best = spoken.logprobs[among], spoken.best_logprobs[among]
    return min(one - other for one, other in zip(own, best, strict=True))


def _check(wave: npt.NDArray[np.float32], phrase: str, language: Language) -> None:
    if wave.ndim != 1 or wave.dtype != np.float32:
        raise DeviceError("the words check needs mono float32 samples")
    if not MIN_SECONDS <= len(wave) / SAMPLE_RATE_HZ <= MAX_SECONDS:
        raise DeviceError(
            f"the words check needs {MIN_SECONDS:g} to {MAX_SECONDS:g} s of audio; say it again"
        )
    if not np.isfinite(wave).all():
        raise DeviceError("the audio holds values that are not numbers; check the microphone")
    check_phrase(phrase, language)


def check_phrase(phrase: str, language: Language = Language.ENGLISH) -> None:
    """Raises DeviceError, which says why, for a phrase that nobody could be heard saying."""
    if len(phrase) > MAX_PHRASE_CHARACTERS or len(phrase.split()) > MAX_PHRASE_WORDS:
        raise DeviceError(f"a phrase has at most {MAX_PHRASE_WORDS} words; ask for a shorter one")
    if letter := unsayable(phrase, language):
        raise DeviceError(
            f"the phrase holds {letter!a}, a letter or sign that is not listened for; write it in "
            f"{language.name.capitalize()} words"
        )
    if control := next((one for one in plain(phrase) if not one.isprintable()), ""):
        raise DeviceError(f"the phrase holds {control!a}, which is no letter or digit; type it anew")
    if not normalise(phrase, language):
        raise DeviceError("the phrase holds no words that can be said")
