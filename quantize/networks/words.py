"""Whisper in INT8 as two ONNX files, and the proof of both against its own float graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from device.audio.utterance import SAMPLE_RATE_HZ
from device.evidence.phrase import competitors, normalise
from device.model_store.sessions import Array, OnnxSession
from device.models.words.hearing import SpeechModel, audio_frames
from device.models.words.log_mel import log_mel
from device.models.words.tokens import vocabulary_text
from device.models.words.transcriber import Transcriber
from device.models.words.whisper_onnx import LANGUAGES, PROMPT, VOCABULARY, OnnxWhisper
from quantize.errors import QuantizeError
from quantize.graphs import whisper
from quantize.graphs.builder import Weights
from quantize.graphs.products import EightBits, Exact, Products
from quantize.parity import MAX_FLIPS_LIMIT, decisions, demand
from quantize.recipe import Artefact, BuildContext, Recipe, ReportProgress, ports
from quantize.speech import Clip, parity_speech
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.sources import source
from quantize.upstream.tokenizer import read_specials, read_vocabulary

DRIFT = "parity_llr_drift_mean"
MIN_COSINE = 0.99
"""Of the encoder's keys and values over one recording, INT8 against float."""
MAX_DRIFT_LLR = 0.5
"""How far a score may stray, on average over the pairs."""
DECISION_LLR = 2.0
"""The default threshold of the words check."""
LONGEST_S, MOST_WORDS = 6, 8
NEAR_PHRASES, WRONG_PHRASES = 3, 12
"""For each recording: those with a word replaced or every word, and what others say."""
END, START, NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
LANGUAGE = ("<|en|>", "<|transcribe|>")
"""Prompt tokens that a model of many languages gets between these two."""
OTHERS = {"de": "<|de|>"}
"""Further languages that such a model may be told to hear, each with the token in the place of English."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What CTranslate2's files of one Whisper hold, as far as a door needs it."""

    weights: Weights
    ordinary: list[bytes]
    prompt: list[int]
    """Upstream numbers of the tokens that begin every text."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Upstream numbers of further languages' tokens."""

    @classmethod
    def read(cls, model: Path, tokenizer: Path, multilingual: bool = False) -> Upstream:
        """Raises QuantizeError when the files are not what they should be."""
        numbers, words = read_specials(tokenizer), read_vocabulary(tokenizer)
        try:
            prompt = [numbers[name] for name in (START, *(LANGUAGE if multilingual else ()), NO_TIMES)]
            others = {code: numbers[name] for code, name in OTHERS.items()} if multilingual else {}
            ordinary = words[: numbers[END]]
        except KeyError as err:
            raise QuantizeError(f"{tokenizer.name} has no token {err}") from err
        return cls(read_tensors(model), ordinary, prompt, others)

    def graphs(self, products: Products) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Encoder and decoder. The decoder's tokens are the ordinary ones, end of text, the prompt's, and
        those of further languages."""
        end, last = len(self.ordinary), len(self.ordinary) + 1 + len(self.prompt)
        tokens = [*range(end + 1), *self.prompt, *self.others.values()]
        decoder = whisper.decoder(self.weights, tokens, products)
        facts = {VOCABULARY: vocabulary_text(self.ordinary), PROMPT: " ".join(map(str, range(end + 1, last)))}
        if self.others:
            facts[LANGUAGES] = " ".join(f"{code}:{last + at}" for at, code in enumerate(self.others))
        onnx.helper.set_model_props(decoder, facts)
        return whisper.encoder(self.weights, products), decoder


def build_encoder(upstream: Upstream, out: Path, progress: ReportProgress) -> Artefact:
    """Write the INT8 encoder to `out`."""
    progress("quantising Whisper's encoder", 0.3)
    return _kept(upstream.graphs(EightBits())[0], out)


def build_decoder(upstream: Upstream, out: Path, progress: ReportProgress) -> Artefact:
    """Write the INT8 decoder to `out`."""
    progress("quantising Whisper's decoder", 0.3)
    return _kept(upstream.graphs(EightBits())[1], out)


def _kept(small: onnx.ModelProto, out: Path) -> Artefact:
    onnx.save(small, out)
    return Artefact(ports(small.graph.input), ports(small.graph.output))


def prove_encoder(upstream: Upstream, encoder: Path, progress: ReportProgress) -> dict[str, float]:
    """How like float's the INT8 encoder's keys and values are; raises QuantizeError when they are not.

    What it decides, it decides with the decoder, whose proof is of both.
    """
    progress("comparing encoders", 0.3)
    exact = upstream.graphs(Exact())[0].SerializeToString()
    metrics = likeness(OnnxSession(exact), OnnxSession(encoder), parity_clips())
    cosines = dict.fromkeys(metrics, MIN_COSINE)
    return demand("Whisper's encoder in INT8", metrics, at_least=cosines, decides=False)


def prove_decoder(
    upstream: Upstream, encoder: Path, decoder: Path, progress: ReportProgress
) -> dict[str, float]:
    """Metrics of both INT8 files together beside float; raises QuantizeError when they judge otherwise."""
    exact = OnnxWhisper(*(model.SerializeToString() for model in upstream.graphs(Exact())))
    metrics = compare(exact, OnnxWhisper(encoder, decoder), parity_clips(), progress)
    return bounded("Whisper in INT8", metrics)


def bounded(what: str, metrics: dict[str, float], most_flips: float = MAX_FLIPS_LIMIT) -> dict[str, float]:
    """`metrics` as the manifest states them; raises QuantizeError when one is out of its bounds."""
    cosines = {name: MIN_COSINE for name in metrics if "cosine" in name}
    return demand(what, metrics, at_least=cosines, at_most={DRIFT: MAX_DRIFT_LLR}, most_flips=most_flips)


def parity_clips() -> list[Clip]:
    """The recordings that words models are proven on."""
    return [clip for clip in parity_speech().clips() if len(clip.wave) <= LONGEST_S * SAMPLE_RATE_HZ]


def likeness(exact: OnnxSession, small: OnnxSession, clips: Sequence[Clip]) -> dict[str, float]:
    """The lowest cosine of keys and of values over one recording."""
    lowest = np.ones(2)
    for clip in clips:
        mel = {"mel": log_mel(clip.wave, audio_frames(len(clip.wave)))}
        pairs = zip(exact.run(mel), small.run(mel), strict=True)
        lowest = np.minimum(lowest, [_cosine(*pair) for pair in pairs])
    return {"parity_keys_cosine_min": float(lowest[0]), "parity_values_cosine_min": float(lowest[1])}


def compare(
    exact: SpeechModel, small: SpeechModel, clips: Sequence[Clip], progress: ReportProgress
) -> dict[str, float]:
    """How alike two models judge. Each recording meets what `exact` heard in it, that with words replaced,
    and what it heard in others. A decision is that of the words check at its default threshold.
    """
    judges = [Transcriber(model) for model in (exact, small)]
    heard = []
    for done, clip in enumerate(clips):
        progress("hearing in float", 0.1 + 0.3 * done / len(clips))
        heard.append(" ".join(normalise(judges[0].clues(clip.wave, "one")[1])[:MOST_WORDS]))
    said = [(clip, text) for clip, text in zip(clips, heard, strict=True) if text]
    llrs: list[list[float]] = [[], []]
    for done, (clip, own) in enumerate(said):
        progress("comparing with float", 0.4 + 0.5 * done / len(said))
        others = sorted({text for _, text in said} - {own})
        wrong = (others[(done + at) % len(others)] for at in range(min(len(others), WRONG_PHRASES)))
        phrases = [own, *competitors(own, NEAR_PHRASES), *wrong]
        for judge, found in zip(judges, llrs, strict=True):
            found.extend(judge.llr(clues) for clues, _ in judge.clues_of_many(clip.wave, phrases))
    before, after = (np.asarray(found) for found in llrs)
    return {
        "parity_recordings": float(len(said)),
        DRIFT: float(np.abs(before - after).mean()),
        **decisions(before > DECISION_LLR, after > DECISION_LLR),
    }


def _cosine(left: Array, right: Array) -> float:
    a, b = left.ravel().astype(np.float64), right.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def recipes(
    role: str,
    name: str,
    task: str,
    sources: tuple[str, str],
    read: Callable[[Path, Path], Upstream],
    *,
    optional: bool,
    beside: tuple[str, ...] = (),
) -> tuple[Recipe, Recipe]:
    """Encoder and decoder of one Whisper, whose two upstream files `read` takes; roles `beside` belong to
    it.
    """

    def upstream(context: BuildContext) -> Upstream:
        model, tokenizer = (context.source(one) for one in sources)
        return read(model, tokenizer)

    encoder, licence = f"{role}-encoder", source(sources[0]).licence
    return (
        Recipe(
            role=encoder,
            file=f"{encoder}.int8.onnx",
            network=f"{name}-encoder-int8",
            task=f"{task}: what was heard",
            licence=licence,
            make=lambda out, context: build_encoder(upstream(context), out, context.progress),
            prove=lambda network, context: prove_encoder(upstream(context), network, context.progress),
            sources=sources,
            optional=optional,
        ),
        Recipe(
            role=role,
            file=f"{role}.int8.onnx",
            network=f"{name}-int8",
            task=f"{task}: how well a sentence fits what was heard",
            licence=licence,
            make=lambda out, context: build_decoder(upstream(context), out, context.progress),
            prove=lambda network, context: prove_decoder(
                upstream(context), context.made[encoder], network, context.progress
            ),
            sources=sources,
            after=(encoder, *beside),
            optional=optional,
        ),
    )


SOURCES = ("whisper-tiny-en", "whisper-tiny-en-tokenizer")
RECIPES = recipes(
    "words", "whisper-tiny.en", "speech recognition, English", SOURCES, Upstream.read, optional=False
)
