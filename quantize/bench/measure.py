"""The measurements behind `ostiary bench`: nothing here prints, and nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.access.policy import decide
from device.audio import AudioSettings, Ended, Endpointer, Frame, SilenceBegan
from device.audio.listen import VoiceActivity
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.evidence.judge import Evidence, Judge
from device.liveness.fingerprint import BITS, SECRET_BYTES, Fingerprint, Fingerprinter
from device.liveness.memory import MemoryLimits
from device.liveness.search import Index, Match
from quantize.bench.speech import Sentence

PROBE_TIMEOUT_S = 600.0
STAGES = ("endpointer", "words", "speaker", "spoof", "context", "judge", "policy")

Judgement = Callable[[Any, str, npt.NDArray[np.float32] | None], Evidence]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds over all rounds."""

    p50: float
    p95: float
    worst: float


@dataclass(frozen=True, slots=True)
class Latency:
    """From the frame that ends speech to the decision; the endpoint's wait for silence is not in it.

    words, speaker, spoof and context overlap: `judge` is all of them, `total` adds endpointer and policy.
    """

    seconds: float
    rounds: int
    total: Spread
    stages: dict[str, Spread]
    processor: Spread
    """Processor time of all checks together, over all threads: what a busy machine blurs least."""


def latency(
    judge: Judgement,
    sentences: Sequence[Sentence],
    template: npt.NDArray[np.float32],
    audio: AudioSettings,
    rounds: int,
    progress: Callable[[], None],
) -> Latency:
    """Judge and decide `rounds` utterances, after one unmeasured round of each sentence."""
    for sentence in sentences:
        judge(sentence.again(), sentence.phrase, template)
    columns: dict[str, list[float]] = {stage: [] for stage in STAGES}
    totals, worked = [], []
    for turn in range(rounds):
        sentence = sentences[turn % len(sentences)]
        handover_ms = _handover_ms(sentence, audio)
        utterance = sentence.again()
        began, began_cpu_s = time.perf_counter(), time.process_time()
        evidence = judge(utterance, sentence.phrase, template)
        judged, judged_cpu_s = time.perf_counter(), time.process_time()
        decide(evidence)
        decided = time.perf_counter()
        timings = evidence.timings
        for stage, value in zip(
            STAGES,
            (
                handover_ms,
                timings.words_ms,
                timings.speaker_ms,
                timings.spoof_ms,
                timings.context_ms,
                (judged - began) * 1e3,
                (decided - judged) * 1e3,
            ),
            strict=True,
        ):
            columns[stage].append(value)
        worked.append((judged_cpu_s - began_cpu_s) * 1e3)
        totals.append(handover_ms + (decided - began) * 1e3)
        progress()
    seconds = float(np.mean([sentence.utterance.duration_s for sentence in sentences]))
    stages = {stage: spread(values) for stage, values in columns.items()}
    return Latency(seconds, rounds, spread(totals), stages, spread(worked))


def processor_alone(
    judge: Judge,
    context: Callable[[npt.NDArray[np.float32]], object],
    sentences: Sequence[Sentence],
    rounds: int,
) -> dict[str, Spread]:
    """Processor milliseconds of each check over all its threads, with nothing beside it.

    Side by side they share the cores and slow each other down, so this sum is below `Latency.processor`.
    """
    columns: dict[str, list[float]] = {}
    for turn in range(rounds):
        sentence = sentences[turn % len(sentences)]
        wave, phrase = sentence.again().wave(), sentence.phrase
        spent = {
            "words": _processor_ms(partial(judge.words.score, wave, phrase)),
            "speaker": _processor_ms(partial(judge.speaker.embed, wave)),
            "spoof": _processor_ms(partial(judge.spoof.evidence, wave)),
        }
        spent["three checks"] = sum(spent.values())
        spent["context"] = _processor_ms(partial(context, wave))
        for name, value in spent.items():
            columns.setdefault(name, []).append(value)
    return {name: spread(values) for name, values in columns.items()}


def _processor_ms(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return (time.process_time() - began_s) * 1e3


class FullMemory:
    """A memory at its limits, of utterances as long as a phrase: the most that looking one up can cost."""

    def __init__(self, limits: MemoryLimits) -> None:
        self.fingerprinter = Fingerprinter(bytes(SECRET_BYTES))
        self._index = Index(limits.marks)
        each = limits.marks // limits.utterances
        marks = np.random.default_rng(1).integers(0, 256, (limits.marks, BITS // 8), dtype=np.uint8)
        for number in range(limits.utterances):
            self._index.add(number, marks[number * each : (number + 1) * each])

    def find(self, heard: Fingerprint) -> Match:
        return self._index.search(heard)


def spread(values_ms: Sequence[float]) -> Spread:
    """Percentiles of some milliseconds."""
    p50, p95 = np.percentile(values_ms, [50, 95])
    return Spread(float(p50), float(p95), float(max(values_ms)))


def _handover_ms(sentence: Sentence, audio: AudioSettings) -> float:
    """How long the endpointer takes, in the frame that ends speech, to measure and hand out the utterance."""
    endpointer = Endpointer(audio.endpointer, audio.quality, VoiceActivity(audio.endpointer.aggressiveness))
    silence = np.zeros(SAMPLE_RATE_HZ * 3 // 2, dtype=np.int16)
    stream = np.concatenate([silence[: SAMPLE_RATE_HZ // 2], sentence.utterance.samples, silence])
    slowest = 0.0
    for frame in _frames(stream):
        began = time.perf_counter()
        events = endpointer.push(frame)
        if any(isinstance(event, SilenceBegan | Ended) for event in events):
            slowest = max(slowest, time.perf_counter() - began)
    endpointer.wipe()
    return slowest * 1e3


def idle_share(seconds: float, audio: AudioSettings) -> float:
    """Share of one core that listening costs while nobody speaks: CPU seconds per second of quiet room."""
    rng = np.random.default_rng(1)
    room = (30 * rng.standard_normal(round(seconds * SAMPLE_RATE_HZ))).astype(np.int16)
    frames = _frames(room)
    endpointer = Endpointer(audio.endpointer, audio.quality, VoiceActivity(audio.endpointer.aggressiveness))
    began = time.process_time()
    for frame in frames:
        endpointer.push(frame)
    return (time.process_time() - began) / seconds


def _frames(samples: npt.NDArray[np.int16]) -> list[Frame]:
    whole = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return [Frame(frame.copy()) for frame in whole]


def model_sizes(models: Path) -> dict[str, int]:
    """Bytes of every file in the model directory, by path below it."""
    return {
        path.relative_to(models).as_posix(): path.stat().st_size
        for path in sorted(models.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True, slots=True)
class FreshProcess:
    """What a process that was just started needs until its first decision."""

    cold_start_s: float
    """From starting the interpreter to models open and warmed up."""
    first_decision_ms: float
    ready_rss_mib: float
    peak_rss_mib: float


@dataclass(frozen=True, slots=True)
class HeardAgain:
    """What it costs that doubtful words are heard by the larger model too."""

    opened_ms: float
    """The first time, which opens the model."""
    again_ms: float
    peak_rss_mib: float


def fresh_process(models: Path, seconds: float) -> FreshProcess:
    """Start `quantize.bench.probe` and let it make one decision; words are heard once.

    Raises DeviceError when it cannot.
    """
    began = time.monotonic()
    found = _probed(models, seconds)
    return FreshProcess(
        cold_start_s=found["ready_at"] - began,
        first_decision_ms=found["first_decision_ms"],
        ready_rss_mib=found["ready_rss_mib"],
        peak_rss_mib=found["peak_rss_mib"],
    )


def heard_again(models: Path, seconds: float) -> HeardAgain | None:
    """The same in another process, which then hears the words again; None without the larger model."""
    found = _probed(models, seconds, "again")
    if not found["again_ms"]:
        return None
    opened_ms, again_ms = found["again_ms"]
    return HeardAgain(opened_ms, again_ms, found["peak_rss_mib"])


def _probed(models: Path, seconds: float, *more: str) -> Any:
    command = [sys.executable, "-m", "quantize.bench.probe", str(models), repr(seconds), *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError) as err:
        raise DeviceError(f"a fresh process gave no measurement ({err}); run `ostiary doctor`") from err
    if found is None:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DeviceError(f"a fresh process failed: {reason}")
    return found
