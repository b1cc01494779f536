"""Writes how a release's models answer the self-test's recordings; every unit then asks its own models."""

from __future__ import annotations

import tempfile
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from device.model_store.answers import CHECKS, Answers, LiveAnswer, VoiceAnswer, WordsAnswer
from device.model_store.bundle import Bundle
from device.model_store.processor import processor_class
from device.model_store.sessions import OnnxSession
from device.models.second_words_answers import ANSWERS_ROLE as SECOND_ANSWERS_ROLE
from device.models.second_words_answers import SecondAnswers
from device.models.segmentation import SegmentationModel
from device.models.segmentation_answers import SegmentationAnswers, means_of
from device.models.self_test import RECORDINGS, THREADS, live_llrs, recordings_of
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, Transcriber
from device.settings import WordsEngine
from quantize.networks import segmentation, words_base
from quantize.release.build import build
from quantize.release.proven import Proven
from quantize.upstream.fetch import fetch, sha256_of
from sync.durable import replace_file

ANSWERS_FILE = Path(__file__).parents[1] / "self-test.json"

_BOOK = "librivox/sense_and_sensibility_01_austen_64kb"
SAID = {
    "cards/001.wav": ("ten of clubs", "two of clubs", "ten of hearts"),
    "cards/002.wav": ("four queen of clubs", "five queen of clubs", "four king of clubs"),
    "cards/003.wav": ("seven of clubs", "eleven of clubs", "seven of spades"),
    "cards/004.wav": ("five five", "five nine", "four five"),
    "cards/005.wav": (
        "eight of spades four of clubs seven of hearts",
        "eight of spades four of clubs six of hearts",
    ),
    "goforward.raw": ("go forward ten meters", "go forward two meters", "go backward ten meters"),
    f"{_BOOK}-0880.wav": ("he was not an ill disposed young man", "he was not an ill disposed old man"),
    f"{_BOOK}-0930.wav": (
        "he might even have been made amiable himself",
        "he might even have been made king himself",
    ),
}
"""Recordings, each with what is said in it and with what differs by a word: thresholds lie between."""
VOICES = {
    "reader": tuple(f"{_BOOK}-{number}.wav" for number in ("0870", "0880", "0890", "0920", "0930")),
    "cards": tuple(f"cards/00{number}.wav" for number in range(1, 6)),
}
"""Of each voice the first three enrol, and the rest of both are held against them."""
LIVE = (
    "cards/002.wav",
    "cards/005.wav",
    "goforward.raw",
    "numbers.raw",
    f"{_BOOK}-0880.wav",
    f"{_BOOK}-0930.wav",
)
TOLERANCE = {"words": 0.5, "voice": 0.5, "live": 0.5}
SEGMENTED = "cards/005.wav"
SEGMENTATION_TOLERANCE = 0.05
SECOND_HEARD = "goforward.raw"


def answer(bundle: Bundle, reference: str, folder: Path = RECORDINGS) -> Answers:
    """The answers of the models of `bundle` on this machine. Raises SelfTestError without the recordings."""
    names = sorted({*SAID, *LIVE, *(name for names in VOICES.values() for name in names)})
    missing = [name for name in names if not (folder / name).is_file()]
    hashes = {name: "" if name in missing else sha256_of(folder / name) for name in names}
    files = {role: bundle.manifest.entry(role).sha256 for roles in CHECKS.values() for role in roles}
    asked = Answers(reference, files, hashes, TOLERANCE, (), (), ())
    waves = recordings_of(asked.recordings, folder)
    with closing(Transcriber.open(bundle, THREADS["words"])) as transcriber:
        words = tuple(
            WordsAnswer(name, phrase, _rounded(score.llr))
            for name, phrases in SAID.items()
            for phrase, score in zip(phrases, transcriber.scores(waves[name], phrases), strict=True)
        )
    speaker = SpeakerModel.open(bundle)
    embedded = {name: speaker.embed(waves[name]) for names in VOICES.values() for name in names}
    voice = []
    for enrolled in (names[:3] for names in VOICES.values()):
        template = speaker.template([embedded[name] for name in enrolled])
        for name in (name for names in VOICES.values() for name in names[3:]):
            voice.append(VoiceAnswer(enrolled, name, _rounded(speaker.llr(embedded[name], template))))
    spoof = SpoofDetector.open(bundle)
    live = tuple(
        LiveAnswer(name, {kind: _rounded(llr) for kind, llr in live_llrs(spoof, waves[name]).items()})
        for name in LIVE
    )
    return Answers(reference, files, hashes, TOLERANCE, words, tuple(voice), live)


def write_answers(path: Path = ANSWERS_FILE) -> None:
    """Build the models of this checkout anew and write what they answer, on the machine that proves them."""
    with tempfile.TemporaryDirectory(prefix="ostiary-answers-") as work:
        roles = [role for roles in CHECKS.values() for role in roles]
        build(Path(work), only=roles, proven=dict.fromkeys(roles, Proven()))
        replace_file(path, answer(Bundle.open(Path(work)), reference()).to_bytes(), 0o644)


def write_segmentation_answers(path: Path = segmentation.ANSWERS) -> None:
    """The same for the segmentation, which is an optional model and has a file of its own."""
    with tempfile.TemporaryDirectory(prefix="ostiary-answers-") as work:
        network = Path(work) / "segmentation.onnx"
        segmentation.build_segmentation(fetch("pyannote-segmentation"), network, lambda text, done: None)
        sha256 = sha256_of(RECORDINGS / SEGMENTED)
        wave = recordings_of({SEGMENTED: sha256})[SEGMENTED]
        found = means_of(SegmentationModel(OnnxSession(network), ""), wave)
        means = tuple(round(float(mean), 4) for mean in found)
        answers = SegmentationAnswers(sha256_of(network), SEGMENTED, sha256, means, SEGMENTATION_TOLERANCE)
        replace_file(path, answers.to_bytes(), 0o644)


def write_second_answers(path: Path = words_base.ANSWERS) -> None:
    """The same for the larger words model, which may hear what the usual one could not make out."""
    roles = (BASE_ENCODER_ROLE, BASE_ROLE)
    with tempfile.TemporaryDirectory(prefix="ostiary-answers-") as work:
        build(Path(work), only=roles, proven=dict.fromkeys((*roles, SECOND_ANSWERS_ROLE), Proven()))
        replace_file(path, second_answers(Bundle.open(Path(work))).to_bytes(), 0o644)


def second_answers(bundle: Bundle, folder: Path = RECORDINGS) -> SecondAnswers:
    """What the larger words model of `bundle` answers here. Raises SelfTestError without the recording."""
    files = {role: bundle.manifest.entry(role).sha256 for role in (BASE_ENCODER_ROLE, BASE_ROLE)}
    hashes = {SECOND_HEARD: sha256_of(folder / SECOND_HEARD)}
    wave = recordings_of(hashes, folder)[SECOND_HEARD]
    with closing(Transcriber.open(bundle, THREADS["words"], engine=WordsEngine.WHISPER_BASE)) as transcriber:
        scores = transcriber.scores(wave, SAID[SECOND_HEARD])
    words = tuple(
        WordsAnswer(SECOND_HEARD, phrase, _rounded(score.llr))
        for phrase, score in zip(SAID[SECOND_HEARD], scores, strict=True)
    )
    return SecondAnswers(files, hashes, words, TOLERANCE["words"])


def reference() -> str:
    """Which machine answers: class of processor, runtime, date."""
    return (
        f"{processor_class()}, onnxruntime {version('onnxruntime')}, {datetime.now(UTC).date().isoformat()}"
    )


def _rounded(llr: float) -> float:
    return round(llr, 4)
