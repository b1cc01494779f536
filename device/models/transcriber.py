"""The words check: were the expected words said? The phrase is known, so it is tested, not transcribed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError
from device.judge import PhraseScore
from device.models._whisper import MAX_SENTENCES, Spoken, Whisper
from device.models.calibration import LLR_LIMIT
from device.phrase import MAX_PHRASE_WORDS, agreement, competitors, forms, is_invented, redact

RATE_HZ = 16_000
MAX_SECONDS = 30.0
MIN_SECONDS = 0.3


class WordsError(DeviceError):
    """The words could not be judged: the audio or the phrase is not usable."""


@dataclass(frozen=True, slots=True)
class Clues:
    """What speaks for and against a phrase, in natural-log units; all but the margin are zero or below."""

    margin_nats: float
    """Expected phrase over its best competitor."""
    deficit_nats: float
    """Expected phrase below what the model would rather have heard; the whole sentence."""
    worst_word_nats: float
    """The same for the single worst token."""
    agreement: float
    """Of the free transcript with the phrase, in [0, 1]."""
    words: int


@dataclass(frozen=True, slots=True)
class WordsCalibration:
    """A logistic model over the clues; its value is the calibrated LLR."""

    offset: float = 2.0
    margin: float = 0.25
    deficit: float = 0.3
    worst_word: float = 0.0
    agreement: float = 0.0

    def llr(self, clues: Clues) -> float:
        """The LLR, clipped. Clues are bounded first: beyond these ends, more of the same proves no more."""
        value = (
            self.offset
            + self.margin * max(-20.0, min(15.0, clues.margin_nats))
            + self.deficit * max(-40.0, clues.deficit_nats)
            + self.worst_word * max(-12.0, clues.worst_word_nats)
            + self.agreement * clues.agreement
        )
        return max(-LLR_LIMIT, min(LLR_LIMIT, value))


class Transcriber:
    """Scores an expected phrase with whisper.cpp: its forms and competitors are weighed in one pass."""

    def __init__(
        self,
        model: Path,
        *,
        version: str = "whisper-tiny.en",
        calibration: WordsCalibration | None = None,
        threads: int = 2,
    ) -> None:
        self.version = version
        self._whisper = Whisper(model, threads=threads)
        self._calibration = calibration or WordsCalibration()

    def score(self, wave: npt.NDArray[np.float32], phrase: str) -> PhraseScore:
        """The calibrated LLR that `phrase` was said in `wave`, and what was heard instead, redacted.

        A loop, an empty or an invented transcript scores the lowest LLR there is. Raises WordsError on audio
        or a phrase that cannot be judged, WhisperError when the model fails.
        """
        clues, transcript = self.clues(wave, phrase)
        llr = -LLR_LIMIT if clues is None else self._calibration.llr(clues)
        return PhraseScore(llr, redact(transcript, phrase))

    def clues(self, wave: npt.NDArray[np.float32], phrase: str) -> tuple[Clues | None, str]:
        """The evidence behind a score (None: nothing credible was heard) and the transcript, not redacted."""
        _check(wave, phrase)
        expected = forms(phrase)
        rivals = tuple(forms(rival)[0] for rival in competitors(phrase, MAX_SENTENCES - len(expected)))
        sentences = [self._whisper.tokens(" " + text) for text in (*expected, *rivals)]
        heard = self._whisper.listen(wave, sentences)
        transcript = self._whisper.text(heard.free.tokens)
        if is_invented(transcript) and agreement(transcript, phrase) < 1.0:
            return None, transcript
        if heard.looped and agreement(transcript, phrase) < 1.0:
            return None, transcript
        said = max(heard.sentences[: len(expected)], key=lambda spoken: spoken.total)
        best_rival = max((spoken.total for spoken in heard.sentences[len(expected) :]), default=-math.inf)
        return Clues(
            margin_nats=said.total - best_rival,
            deficit_nats=min(0.0, said.total - heard.free.total),
            worst_word_nats=_worst_token(said),
            agreement=agreement(transcript, phrase),
            words=len(phrase.split()),
        ), transcript

    def close(self) -> None:
        """Release the model."""
        self._whisper.close()


def _worst_token(spoken: Spoken) -> float:
    """How far the least likely token lies below the model's favourite at its place."""
    return min(own - best for own, best in zip(spoken.logprobs, spoken.best_logprobs, strict=True))


def _check(wave: npt.NDArray[np.float32], phrase: str) -> None:
    if wave.ndim != 1 or wave.dtype != np.float32:
        raise WordsError("the words check needs mono float32 samples")
    if not MIN_SECONDS <= len(wave) / RATE_HZ <= MAX_SECONDS:
        raise WordsError(f"the words check needs {MIN_SECONDS:g} to {MAX_SECONDS:g} s of audio; say it again")
    if not np.isfinite(wave).all():
        raise WordsError("the audio holds values that are not numbers; check the microphone")
    if not 1 <= len(phrase.split()) <= MAX_PHRASE_WORDS or len(phrase) > 400 or not phrase.isprintable():
        raise WordsError(f"a phrase has 1 to {MAX_PHRASE_WORDS} printable words")
