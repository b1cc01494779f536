"""Whisper in ONNX Runtime: encodes the sound once, and weighs all written forms of a phrase in one pass.

What the model hears by itself is read off that pass as far as it agrees with one of the forms, then continued
with the rest of the form as a guess. A guess of several words is checked in one pass too, so that right
phrases need hardly any token of their own (Leviathan et al. 2023, with the phrase as the draft).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence.phrase import before_loop
from device.evidence.vocabulary import Language
from device.model_store.sessions import Array, NoMemoryError, OnnxSession, SessionError
from device.models.words.hearing import Heard, Sentence, Spoken, audio_frames, token_cap
from device.models.words.log_mel import log_mel
from device.models.words.tokens import Vocabulary

VOCABULARY, PROMPT = "vocabulary", "prompt"
"""Under these names the decoder's file carries its ordinary tokens and the tokens that begin every text."""
LANGUAGES = "languages"
"""Under this name the tokens of further languages, `de:50262`; each stands in the place of English."""

LANGUAGE_PLACE = 1
"""Of the language's token in the prompt of a model of many languages."""
DRAFT_TOKENS = 6
BATCH = 16
"""Sentences in one pass: every place in it costs 200 kB while the vocabulary is looked at."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the decoder said at the places asked for, in natural-log probabilities, and its new memory."""

    chosen: Array
    favourite: Array
    favourites: Array
    keys: Array
    values: Array


@dataclass(frozen=True, slots=True)
class _Memory:
    """Keys and values for every layer of the decoder: of one utterance, or of what was said so far."""

    keys: Array
    values: Array

    def with_more(self, answer: _Answer, count: int) -> _Memory:
        """And of the first `count` tokens of the last pass."""
        return _Memory(
            np.concatenate([self.keys, answer.keys[:, :, :, :count]], axis=3),
            np.concatenate([self.values, answer.values[:, :, :, :count]], axis=3),
        )


@dataclass(slots=True)
class _Free:
    """The model's own hypothesis as it grows."""

    end: int
    cap: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    keep: int | None = None
    """Set when it had to be stopped: how much of it counts."""

    def say(self, token: int, logprob: float) -> bool:
        """Append one token; False when there is nothing more to say."""
        if len(self.tokens) >= self.cap:
            self.keep = self.cap
            return False
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.keep = before_loop(self.tokens)
        return token != self.end and self.keep is None

    def path(self) -> Spoken:
        tokens, logprobs = tuple(self.tokens[: self.keep]), tuple(self.logprobs[: self.keep])
        return Spoken(tokens, logprobs, logprobs, (None,) * len(tokens))


class OnnxWhisper:
    """A SpeechModel. Raises DeviceError when the two files are not a Whisper of ours."""

    def __init__(
        self,
        encoder: Path | bytes,
        decoder: Path | bytes,
        *,
        threads: int = 2,
        float_products: bool = False,
    ) -> None:
        try:
            first, second = (
                OnnxSession(network, threads, float_products=float_products) for network in (encoder, decoder)
            )
            sessions = first, second
        except NoMemoryError:
            raise
        except SessionError as err:
            raise DeviceError(f"{err}; run `ostiary models build`") from err
        self._sessions: tuple[OnnxSession, OnnxSession] | None = sessions
        facts, shapes = sessions[1].metadata, sessions[1].shapes
        try:
            self._vocabulary = Vocabulary.from_text(facts[VOCABULARY])
            self._prompt = [int(token) for token in facts[PROMPT].split()]
            others = (one.split(":") for one in facts.get(LANGUAGES, "").split())
            self._others = {code: int(token) for code, token in others}
            self._layers, _, self._heads, _, self._width = (
                int(size) if isinstance(size, int) else 0 for size in shapes["said_keys"]
            )
        except (KeyError, ValueError) as err:
            raise DeviceError("the words model is incomplete; run `ostiary models build`") from err
        self._end = len(self._vocabulary)

    def hearing(self, language: Language) -> OnnxWhisper:
        """The same model and memory, told to hear another language. Raises DeviceError where it knows none
        such."""
        if language is Language.ENGLISH:
            return self
        token = self._others.get(str(language))
        if token is None or len(self._prompt) <= LANGUAGE_PLACE + 1:
            raise DeviceError(f"this words model cannot be told to hear {language.name.capitalize()}")
        other = copy.copy(self)
        other._prompt = [*self._prompt[:LANGUAGE_PLACE], token, *self._prompt[LANGUAGE_PLACE + 1 :]]
        return other

    def tokens(self, text: str) -> tuple[int, ...]:
        return self._vocabulary.tokens(text)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def listen(self, wave: Wave, sentences: Sequence[Sentence]) -> Heard:
        if self._sessions is None:
            raise DeviceError("the transcriber was closed")
        encoder, decoder = self._sessions
        try:
            mel = log_mel(wave, audio_frames(len(wave)))
            sound = _Memory(*encoder.run({"mel": mel}))
            free = _Free(self._end, token_cap(len(wave)))
            spoken: list[Spoken] = []
            for at in range(0, max(1, len(sentences)), BATCH):
                batch = list(sentences[at : at + BATCH]) or [Sentence(())]
                answer, starts = self._forced(decoder, sound, batch)
                spoken += [self._spoken(answer, *pair) for pair in zip(starts, batch, strict=True)]
                if at == 0:
                    self._hear(decoder, sound, batch, answer, starts, free)
        except SessionError as err:
            raise DeviceError(f"the transcriber failed ({err})") from err
        return Heard(free.path(), tuple(spoken[: len(sentences)]), free.keep is not None)

    def close(self) -> None:
        self._sessions = None

    def _forced(
        self, decoder: OnnxSession, sound: _Memory, sentences: Sequence[Sentence]
    ) -> tuple[_Answer, list[int]]:
        """One pass in which every sentence is said, and where the places of each start in the answer."""
        lead = len(self._prompt)
        length = lead + max(len(one.tokens) for one in sentences)
        tokens = np.full((len(sentences), length), self._end, dtype=np.int64)
        places: list[int] = []
        choices: list[list[int]] = []
        starts: list[int] = []
        for at, sentence in enumerate(sentences):
            row = sentence.tokens
            tokens[at, : lead + len(row)] = [*self._prompt, *row]
            starts.append(len(places))
            places.extend(range(at * length + lead - 1, at * length + lead + len(row)))
            choices.extend(
                [token, *sentence.rivals.get(place, ())] for place, token in enumerate([*row, self._end])
            )
        return self._run(decoder, sound, tokens, self._nothing(len(sentences)), places, choices), starts

    def _spoken(self, answer: _Answer, start: int, sentence: Sentence) -> Spoken:
        stop = start + len(sentence.tokens) + 1
        rivals = [
            _mean(answer.chosen[start + place, 1 : 1 + len(named)])
            if (named := sentence.rivals.get(place)) is not None and len(named)
            else None
            for place in range(stop - start)
        ]
        return Spoken(
            (*sentence.tokens, self._end),
            tuple(answer.chosen[start:stop, 0].tolist()),
            tuple(answer.favourite[start:stop, 0].tolist()),
            tuple(rivals),
        )

    def _hear(
        self, decoder: OnnxSession, sound: _Memory, sentences: Sequence[Sentence], answer: _Answer,
        starts: list[int], free: _Free,
    ) -> None:  # fmt: skip
        """Grows `free` to its end: the sentence that agrees longest, then guess and correction in turn."""
        rows = [one.tokens for one in sentences]
        agreed = [self._agreed(answer, start, row) for start, row in zip(starts, rows, strict=True)]
        best = max(range(len(rows)), key=agreed.__getitem__)
        row, start, at = rows[best], starts[best], agreed[best]
        for place in range(at):
            if not free.say(row[place], float(answer.favourite[start + place, 0])):
                return
        kept = len(self._prompt) + at
        memory = _Memory(
            answer.keys[:, best : best + 1, :, :kept], answer.values[:, best : best + 1, :, :kept]
        )
        token, logprob = self._favourite(answer, start + at, first=at == 0)
        while free.say(token, logprob):
            at = _resumed(row, at, token)
            guess = row[at : at + DRAFT_TOKENS] or _repeated(free.tokens)
            answer = self._run(
                decoder, sound, np.array([[token, *guess]], dtype=np.int64), memory,
                range(len(guess) + 1), [[self._end]] * (len(guess) + 1),
            )  # fmt: skip
            right = self._agreed(answer, 0, guess, begun=True)
            for place in range(right):
                if not free.say(guess[place], float(answer.favourite[place, 0])):
                    return
            at += right
            memory = memory.with_more(answer, right + 1)
            token, logprob = self._favourite(answer, right)

    def _agreed(self, answer: _Answer, start: int, row: Sequence[int], *, begun: bool = False) -> int:
        """How many leading tokens of `row` are what the model would have said anyway."""
        for place, token in enumerate(row):
            if self._favourite(answer, start + place, first=place == 0 and not begun)[0] != token:
                return place
        return len(row)

    def _favourite(self, answer: _Answer, place: int, *, first: bool = False) -> tuple[int, float]:
        """The likeliest token at a place. Something was said, so a text never ends before it begins."""
        rank = int(first and int(answer.favourites[place, 0]) == self._end)
        return int(answer.favourites[place, rank]), float(answer.favourite[place, rank])

    def _nothing(self, rows: int) -> _Memory:
        empty = np.zeros((self._layers, rows, self._heads, 0, self._width), dtype=np.float32)
        return _Memory(empty, empty)

    def _run(
        self, decoder: OnnxSession, sound: _Memory, tokens: Array, memory: _Memory, places: Sequence[int],
        choices: Sequence[Sequence[int]],
    ) -> _Answer:  # fmt: skip
        said, length = memory.keys.shape[3], tokens.shape[1]
        later = np.arange(said + length) > said + np.arange(length)[:, np.newaxis]
        widest = max(map(len, choices))
        named = np.array([[*row, *[row[0]] * (widest - len(row))] for row in choices], dtype=np.int64)
        results = decoder.run(
            {
                "tokens": tokens,
                "mask": np.where(later, np.float32(-1e9), np.float32(0.0)),
                "keys": sound.keys,
                "values": sound.values,
                "said_keys": memory.keys,
                "said_values": memory.values,
                "places": np.asarray(places, dtype=np.int64),
                "choices": named,
            }
        )
        return _Answer(*results)


def _resumed(row: Sequence[int], at: int, token: int) -> int:
    """Where in `row` to guess on from, after `token` was heard in place of what stands at `at`."""
    ahead = row[at : at + DRAFT_TOKENS]
    return at + 1 + (ahead.index(token) if token in ahead else 0)


def _repeated(said: Sequence[int]) -> Sequence[int]:
    """What came after the last token when it came before: past its end, a text is most often a loop."""
    earlier = [at for at, token in enumerate(said[:-1]) if token == said[-1]]
    return said[earlier[-1] + 1 :][:DRAFT_TOKENS] if earlier else ()


def _mean(logprobs: Array) -> float:
    """The natural log of the mean probability."""
    return float(np.log(np.exp(logprobs.astype(np.float64)).mean() + 1e-30))
