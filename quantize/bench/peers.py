"""`ostiary bench --peers`: the same utterances, in turn, through ours and what others would use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from device.errors import DeviceError
from device.model_store import slots
from device.model_store.pick import remembered, served_by
from quantize.bench.measure import Spread, spread
from quantize.bench.speech import Sentence
from sync.plain_file import LARGE_BYTES, plain_text

REPOSITORY = Path(__file__).parents[2]
WORKER = REPOSITORY / "bench" / "peers" / "worker.py"
REQUIREMENTS = REPOSITORY / "bench" / "peers" / "requirements.txt"
ENVIRONMENT = REPOSITORY / ".venv-peers"
WITHOUT_DEPENDENCIES = "Resemblyzer==0.1.4"
INSTALL_TIMEOUT_S = 3600.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One implementation of one task. `ours` names what it is compared with."""

    key: str
    task: str
    label: str
    ours: str


CONTENDERS = (
    Contender("ours-speaker", "speaker", "ours: CAM++ INT8", "ours-speaker"),
    Contender("campplus-float", "speaker", "CAM++ float, ONNX Runtime", "ours-speaker"),
    Contender("resemblyzer-torch", "speaker", "Resemblyzer, torch", "ours-speaker"),
    Contender("ours-words", "words", "ours: phrase test, tiny.en INT8", "ours-words"),
    Contender("whisper-cpp-default", "words", "whisper.cpp defaults, tiny.en F16", "ours-words"),
    Contender("faster-whisper", "words", "faster-whisper tiny.en INT8", "ours-words"),
    Contender("faster-whisper-base", "words", "faster-whisper base INT8", "ours-words"),
    Contender("ours-judge", "whole", "ours: all three checks", "ours-judge"),
    Contender("sequential-float", "whole", "original: Whisper, then Resemblyzer", "ours-judge"),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """How much slower a board is than the machine that measured, and who says so."""

    board: str
    low: float
    high: float
    source: str


BOARDS = (
    Prediction(
        "Raspberry Pi 5",
        3.4,
        5.1,
        "Moonshine's documentation times Whisper tiny and its own models on a Pi 5 and on x86 in one table",
    ),
    Prediction(
        "Raspberry Pi 4",
        2 * 3.4,
        3 * 5.1,
        "the Pi 5's factor times the 2 to 3 that Raspberry Pi Ltd states between Pi 5 and Pi 4",
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did. `ratio_*` are its figure over ours for the same task."""

    key: str
    task: str
    label: str
    latency_ms: Spread
    peak_rss_mib: float
    model_bytes: int
    ratio_latency: float
    ratio_memory: float
    ratio_size: float
    said: str


@dataclass(frozen=True, slots=True)
class Files:
    """Where each contender's model lies."""

    models: Path
    campplus: Path
    resemblyzer: Path
    whisper: Path
    ctranslate2: Path
    ctranslate2_base: Path


def race(
    files: Files, sentences: Sequence[Sentence], rounds: int, threads: int, progress: Callable[[], None]
) -> list[Row]:
    """Every contender in its own process; they take turns on each utterance, so that noise hits all alike."""
    taken: dict[str, list[float]] = {contender.key: [] for contender in CONTENDERS}
    said: dict[str, str] = {}
    with ExitStack() as stack:
        workers = {}
        for contender in CONTENDERS:
            # A file and not a pipe: libraries write much, and nobody reads it until something fails.
            complaints = stack.enter_context(tempfile.TemporaryFile())
            worker = _Worker(contender, files, sentences, threads, complaints)
            workers[contender.key] = stack.enter_context(worker)
            progress()
        for turn in range(rounds):
            for key, worker in workers.items():
                elapsed_ms, text = worker.take(turn % len(sentences))
                taken[key].append(elapsed_ms)
                said[key] = text
                progress()
        memory = {key: worker.finish() for key, worker in workers.items()}
    sizes = {contender.key: _size(contender.key, files) for contender in CONTENDERS}
    rows = []
    for contender in CONTENDERS:
        timed, ours = spread(taken[contender.key]), spread(taken[contender.ours])
        rows.append(
            Row(
                key=contender.key,
                task=contender.task,
                label=contender.label,
                latency_ms=timed,
                peak_rss_mib=memory[contender.key],
                model_bytes=sizes[contender.key],
                ratio_latency=timed.p50 / ours.p50,
                ratio_memory=memory[contender.key] / memory[contender.ours],
                ratio_size=sizes[contender.key] / sizes[contender.ours],
                said=said[contender.key],
            )
        )
    return rows


class _Worker:
    """One contender's process. Audio goes to it through a pipe and is never written."""

    def __init__(
        self,
        contender: Contender,
        files: Files,
        sentences: Sequence[Sentence],
        threads: int,
        complaints: Any,
    ) -> None:
        ours = contender.key.startswith("ours-")
        python = Path(sys.executable) if ours else ENVIRONMENT / "bin" / "python"
        self._label = contender.label
        self._complaints = complaints
        self._process = subprocess.Popen(
            [str(python), str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            cwd=REPOSITORY,
        )
        waves = [sentence.utterance.wave() for sentence in sentences]
        job = {
            "contender": contender.key,
            "threads": threads,
            "samples": [len(wave) for wave in waves],
            "phrases": [sentence.phrase for sentence in sentences],
            **{name: str(getattr(files, name)) for name in Files.__dataclass_fields__},
        }
        self._write(json.dumps(job).encode() + b"\n")
        for wave in waves:
            self._write(wave.astype(np.float32).tobytes())

    def __enter__(self) -> _Worker:
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def take(self, number: int) -> tuple[float, str]:
        """Milliseconds for one utterance, and the transcript where there is one."""
        self._write(b"%d\n" % number)
        answer = self._read()
        return float(answer["ms"]), str(answer["said"])

    def finish(self) -> float:
        """Peak resident memory in MiB, when everything has been done."""
        self._pipe(self._process.stdin).close()
        return float(self._read()["peak_rss_mib"])

    def _write(self, data: bytes) -> None:
        pipe = self._pipe(self._process.stdin)
        try:
            pipe.write(data)
            pipe.flush()
        except OSError as err:
            raise self._stopped() from err

    def _read(self) -> dict[str, Any]:
        line = self._pipe(self._process.stdout).readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as err:
            raise self._stopped() from err
        return answer

    def _stopped(self) -> DeviceError:
        self._process.wait(timeout=STOP_TIMEOUT_S)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return DeviceError(f"{self._label} stopped: {lines[-1] if lines else 'it gave no reason'}")

    @staticmethod
    def _pipe(pipe: Any) -> BinaryIO:
        found: BinaryIO = pipe
        return found


def _size(key: str, files: Files) -> int:
    def one(path: Path) -> int:
        return path.stat().st_size

    def ours(*roles: str) -> int:
        """What is opened: of a network that is there for two runtimes, only the file of the one in use."""
        bundle = slots.active(files.models)
        pick = remembered(files.models, bundle, lambda text: None)
        return sum(one(served_by(bundle, role, pick.runtime(role))) for role in roles)

    return {
        "ours-speaker": lambda: ours("speaker"),
        "ours-words": lambda: ours("words", "words-encoder"),
        "ours-judge": lambda: ours(
            "speaker", "words", "words-encoder", "spoof", "spoof-card", "spoof-envelopes"
        ),
        "campplus-float": lambda: one(files.campplus),
        "resemblyzer-torch": lambda: one(files.resemblyzer),
        "whisper-cpp-default": lambda: one(files.whisper),
        "faster-whisper": lambda: one(files.ctranslate2 / "model.bin"),
        "faster-whisper-base": lambda: one(files.ctranslate2_base / "model.bin"),
        "sequential-float": lambda: one(files.whisper) + one(files.resemblyzer),
    }[key]()


def prepare_environment(say: Callable[[str], None]) -> None:
    """Make .venv-peers when it is not there or its list changed. Raises DeviceError when pip fails."""
    mark = ENVIRONMENT / "ready.txt"
    wanted = plain_text(REQUIREMENTS) + WITHOUT_DEPENDENCIES
    if mark.is_file() and plain_text(mark) == wanted:
        return
    say("Installing the peers into .venv-peers; torch is large, this takes minutes")
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for command in (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [*pip, "-r", str(REQUIREMENTS)],
        [*pip, "--no-deps", WITHOUT_DEPENDENCIES],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as err:
            detail = (getattr(err, "stderr", "") or "").strip().splitlines()
            reason = detail[-1] if detail else type(err).__name__
            raise DeviceError(f"the peers could not be installed ({reason})") from err
    mark.write_text(wanted, encoding="utf-8")


def prepare_files(models: Path, say: Callable[[str], None]) -> Files:
    """The peers' models, made from the project's own pinned sources beside the door's models."""
    from quantize import reference
    from quantize.graphs import whisper_ggml
    from quantize.upstream.fetch import fetch

    folder = models.parent / "reference"
    say("Preparing the peers' models")
    built = reference.build(folder)
    model, tokenizer = fetch("whisper-tiny-en"), fetch("whisper-tiny-en-tokenizer")
    half = folder / "whisper-tiny.en-f16.bin"
    if not half.is_file():
        part = half.with_suffix(".part")
        whisper_ggml.build(model, tokenizer, part, weights="f16")
        part.replace(half)
    return Files(
        models=models,
        campplus=built.campplus,
        resemblyzer=fetch("resemblyzer"),
        whisper=half,
        ctranslate2=ctranslate2_folder(folder / "ctranslate2-tiny.en", model, tokenizer),
        ctranslate2_base=ctranslate2_folder(
            folder / "ctranslate2-base", fetch("whisper-base"), fetch("whisper-base-tokenizer")
        ),
    )


def ctranslate2_folder(folder: Path, model: Path, tokenizer: Path) -> Path:
    """The layout that CTranslate2 asks for. The vocabulary follows from the tokenizer.

    A first word is neither a space nor the end of the text, as in the authors' own settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((model, "model.bin"), (tokenizer, "tokenizer.json")):
        if not (folder / name).is_file():
            shutil.copyfile(source, folder / name)
    tokens = json.loads(plain_text(tokenizer, LARGE_BYTES))
    vocabulary = dict(tokens["model"]["vocab"]) | {t["content"]: t["id"] for t in tokens["added_tokens"]}
    ordered = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    # The tokenizer does not list the time stamps, which follow its last token: one every 20 ms up to 30 s.
    ordered += [f"<|{step / 50:.2f}|>" for step in range(1501)]
    (folder / "vocabulary.json").write_text(json.dumps(ordered), encoding="utf-8")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "suppress_ids": [],
                "suppress_ids_begin": [220, vocabulary["<|endoftext|>"]],
                "alignment_heads": [[1, 0]],
            }
        ),
        encoding="utf-8",
    )
    return folder


def predictions(judged: Spread) -> list[dict[str, Any]]:
    """What our whole judgement would take on boards we did not measure; a prediction, and called one."""
    return [
        {
            "board": board.board,
            "factor": [board.low, board.high],
            "p50_ms": [judged.p50 * board.low, judged.p50 * board.high],
            "source": board.source,
        }
        for board in BOARDS
    ]
