"""One contender of `ostiary bench --peers`, in a process of its own. Not for people: the command drives it.

It reads one line of JSON (which contender, its files, thread count, how many utterances), then the utterances
as raw float32 on the same pipe, so that no audio touches a disk. For every line that names an utterance it
does its work once and answers with the milliseconds; at the end of input it answers with its peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[Any, str], Any]
HELD: list[Any] = []


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(job["threads"])
    import numpy as np

    waves = [
        np.frombuffer(sys.stdin.buffer.read(4 * count), dtype=np.float32).copy() for count in job["samples"]
    ]
    # Libraries chat on standard output, which belongs to the protocol here.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = CONTENDERS[job["contender"]](job)
    for wave, phrase in zip(waves, job["phrases"], strict=True):
        work(wave.copy(), phrase)
    _answer(answers, {"ready": True})
    for line in sys.stdin.buffer:
        number = int(line)
        wave, phrase = waves[number].copy(), job["phrases"][number]
        began = time.perf_counter()
        said = work(wave, phrase)
        elapsed_ms = (time.perf_counter() - began) * 1e3
        _answer(answers, {"ms": elapsed_ms, "said": said if isinstance(said, str) else ""})
    _answer(answers, {"peak_rss_mib": _peak_rss_mib()})
    answers.close()
    # Some runtimes crash while they are taken down; everything has been said.
    os._exit(0)


def _answer(answers: Any, fields: dict[str, Any]) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def _peak_rss_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def ours_speaker(job: dict[str, Any]) -> Work:
    from device.model_store import slots
    from device.model_store.pick import remembered
    from device.models.speaker import SpeakerModel

    models = Path(job["models"])
    bundle = slots.active(models)
    runtime = remembered(models, bundle, lambda text: None).runtime("speaker")
    model = SpeakerModel.open(bundle, job["threads"], runtime)
    return lambda wave, phrase: model.embed(wave)


def ours_words(job: dict[str, Any]) -> Work:
    from quantize.evaluate.checks.opened import open_words

    words = open_words(Path(job["models"]))
    return lambda wave, phrase: words.score(wave, phrase).transcript


def ours_judge(job: dict[str, Any]) -> Work:
    import numpy as np

    from device.audio.utterance import Quality, Utterance
    from device.settings import load
    from device.unit.assembly import open_judge

    # Held open until the process ends; dropped, it would close the judge with it.
    held = open_judge(Path(job["models"]), load())
    judge = held.__enter__()
    HELD.append(held)
    template = np.full(192, 192**-0.5, dtype=np.float32)
    quality = Quality(3.0, 30.0, 0.0, -20.0, 8000.0)

    def work(wave: Any, phrase: str) -> Any:
        samples = np.round(wave * 32768).clip(-32768, 32767).astype(np.int16)
        return judge(Utterance(samples, 0.0, len(samples) / 16_000, quality), phrase, template).transcript

    return work


def campplus_float(job: dict[str, Any]) -> Work:
    import kaldi_native_fbank as knf
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = ort.InferenceSession(job["campplus"], options, providers=["CPUExecutionProvider"])
    fbank = knf.FbankOptions()
    fbank.frame_opts.dither = 0.0
    fbank.frame_opts.window_type = "povey"
    fbank.mel_opts.num_bins = 80

    def work(wave: Any, phrase: str) -> Any:
        front = knf.OnlineFbank(fbank)
        front.accept_waveform(16_000, (wave * 32768).tolist())
        front.input_finished()
        features = np.stack([front.get_frame(i) for i in range(front.num_frames_ready)])
        features -= features.mean(axis=0)
        return session.run(None, {"features": features[None]})

    return work


def resemblyzer_torch(job: dict[str, Any]) -> Work:
    import torch
    from resemblyzer import VoiceEncoder, preprocess_wav

    torch.set_num_threads(job["threads"])
    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda wave, phrase: encoder.embed_utterance(preprocess_wav(wave, source_sr=16_000))


def whisper_cpp_default(job: dict[str, Any]) -> Work:
    from pywhispercpp.model import Model

    model = Model(
        job["whisper"], n_threads=job["threads"], print_progress=False, redirect_whispercpp_logs_to=None
    )
    return lambda wave, phrase: " ".join(segment.text for segment in model.transcribe(wave))


def faster_whisper_default(job: dict[str, Any], folder: str = "ctranslate2") -> Work:
    from faster_whisper import WhisperModel

    model = WhisperModel(job[folder], device="cpu", compute_type="int8", cpu_threads=job["threads"])
    return lambda wave, phrase: " ".join(s.text for s in model.transcribe(wave, language="en")[0])


def faster_whisper_base(job: dict[str, Any]) -> Work:
    return faster_whisper_default(job, "ctranslate2_base")


def sequential_float(job: dict[str, Any]) -> Work:
    words, voice = whisper_cpp_default(job), resemblyzer_torch(job)

    def work(wave: Any, phrase: str) -> Any:
        said = words(wave, phrase)
        voice(wave, phrase)
        return said

    return work


CONTENDERS: dict[str, Callable[[dict[str, Any]], Work]] = {
    "ours-speaker": ours_speaker,
    "ours-words": ours_words,
    "ours-judge": ours_judge,
    "campplus-float": campplus_float,
    "resemblyzer-torch": resemblyzer_torch,
    "whisper-cpp-default": whisper_cpp_default,
    "faster-whisper": faster_whisper_default,
    "faster-whisper-base": faster_whisper_base,
    "sequential-float": sequential_float,
}

if __name__ == "__main__":
    main()
