"""What makes the speaker network fast: one change at a time, all of them side by side on the same speech.

    python -m bench.checks.runtimes --rounds 20

Every lane runs once in each round, in rotating order, so that whatever else the machine does falls on all of
them. Processor time is what counts on a busy machine; the table gives it as a ratio to the lane that ships.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import onnx

from device.model_store import pick, slots
from device.model_store.sessions import OnnxSession, SessionError, TfliteSession, ort
from device.models.features import kaldi_fbank
from device.models.speaker import unit
from device.settings import models_dir
from quantize import reference
from quantize.speech import parity_speech

SHIPPED = "ONNX Runtime, as shipped"
SECONDS = (3.6, 4.4)
BUCKET_FRAMES = 100
Network = Callable[[Any], Any]


@dataclass(frozen=True)
class Lane:
    """One way to compute the same embedding: opened once, then called with (frames, 80)."""

    name: str
    open: Callable[[], Network]


def onnx_lane(path: Path, threads: int = 1) -> Callable[[], Network]:
    def opened() -> Network:
        session = OnnxSession(path, threads)
        return lambda x: session.run({"features": x[np.newaxis]})[0]

    return opened


def tuned_lane(path: Path, **given: Any) -> Callable[[], Network]:
    """ONNX Runtime with the product's settings but for those given."""

    def opened() -> Network:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.enable_mem_pattern = options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        for name, value in given.items():
            setattr(options, name, value)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"features": x[np.newaxis]})[0]

    return opened


def tflite_lane(path: Path, package: str, xnnpack: bool, threads: int = 1) -> Callable[[], Network]:
    def opened() -> Network:
        session = TfliteSession(path, threads, xnnpack, (package,))
        return lambda x: session.run({"features": x[np.newaxis]})[0]

    return opened


def bucketed(lane: Callable[[], Network]) -> Callable[[], Network]:
    """Few lengths instead of every one: the speech is begun again until the next bucket is full."""

    def opened() -> Network:
        network = lane()

        def run(x: Any) -> Any:
            frames = -(-len(x) // BUCKET_FRAMES) * BUCKET_FRAMES
            return network(np.resize(x, (frames, x.shape[1])))

        return run

    return opened


def lanes(models: Path, work: Path) -> list[Lane]:
    bundle = slots.active(models)
    small, exact = bundle.path("speaker"), reference.build(models.parent / "reference").campplus
    operators = work / "qoperator.onnx"
    tuned_lane(small, optimized_model_filepath=str(operators))()
    levels = ort.GraphOptimizationLevel
    off, basic, extended = levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED
    found = [
        Lane(SHIPPED, onnx_lane(small)),
        Lane("two threads", onnx_lane(small, threads=2)),
        Lane("float", onnx_lane(exact)),
        Lane("QOperator, optimised beforehand", tuned_lane(operators, graph_optimization_level=off)),
        Lane("no graph optimisation", tuned_lane(small, graph_optimization_level=off)),
        Lane("basic graph optimisation", tuned_lane(small, graph_optimization_level=basic)),
        Lane("extended optimisation", tuned_lane(small, graph_optimization_level=extended)),
        Lane("memory arena", tuned_lane(small, enable_cpu_mem_arena=True)),
        Lane("arena and pattern", tuned_lane(small, enable_cpu_mem_arena=True, enable_mem_pattern=True)),
        Lane("buckets of one second", bucketed(onnx_lane(small))),
        Lane("batch norms not folded, float", onnx_lane(unfolded(exact, work / "unfolded.onnx"))),
    ]  # fmt: skip
    if pick.has_variant(bundle, "speaker"):
        variant = pick.tflite_variant(bundle, "speaker")
        for package in ("ai_edge_litert", "tflite_runtime"):
            for xnnpack in (True, False):
                kind = "XNNPACK" if xnnpack else "built-in kernels"
                found.append(Lane(f"{package}, {kind}", tflite_lane(variant, package, xnnpack)))
        found.append(
            Lane("ai_edge_litert, XNNPACK, two threads", tflite_lane(variant, "ai_edge_litert", True, 2))
        )
        found.append(
            Lane("ai_edge_litert, XNNPACK, buckets", bucketed(tflite_lane(variant, "ai_edge_litert", True)))
        )
    return found


def unfolded(exact: Path, out: Path) -> Path:
    """The float graph with its batch norms left beside their convolutions, as a product and a sum."""
    model = onnx.load(exact)
    nodes = []
    shapes = {t.name: t.dims for t in model.graph.initializer}
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        kernel = shapes[node.input[1]]
        shape = (1, kernel[0], *[1] * (len(kernel) - 2))
        final = node.output[0]
        node.output[0] = f"{final}.plain"
        for at, (op, value) in enumerate((("Mul", 1.0), ("Add", 0.0))):
            name = f"{final}.{op}"
            tensor = onnx.numpy_helper.from_array(np.full(shape, value, np.float32), f"{name}.value")
            model.graph.initializer.append(tensor)
            source = f"{final}.plain" if at == 0 else f"{final}.Mul"
            nodes.append(
                onnx.helper.make_node(op, [source, tensor.name], [name if at == 0 else final], name=name)
            )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, out)
    return out


def kaldis_own() -> Network:
    """The front end from Kaldi's C++ code, frame by frame as its Python interface gives it."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16_000
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = 80

    def run(wave: Any) -> Any:
        bank = knf.OnlineFbank(options)
        bank.accept_waveform(16_000, wave)
        bank.input_finished()
        features = np.stack([bank.get_frame(frame) for frame in range(bank.num_frames_ready)])
        return features - features.mean(axis=0)

    return run


def waves(count: int) -> list[Any]:
    """Pieces of real speech of varying length."""
    rng = np.random.default_rng(5)
    clips = [clip.wave for clip in parity_speech().clips() if len(clip.wave) > SECONDS[1] * 16_000]
    chosen = rng.integers(0, len(clips), count)
    return [clips[i][: int(rng.uniform(*SECONDS) * 16_000)] for i in chosen]


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    answer = run()
    return answer, (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def race(found: list[Lane], given: list[Any], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    opened: dict[str, tuple[Network, float, float]] = {}
    for lane in found:
        try:
            network, _, open_ms = timed(lane.open)
        except SessionError as err:
            tell(f"{lane.name}: {err}")
            continue
        _, _, first_ms = timed(partial(network, given[0]))
        opened[lane.name] = network, open_ms, first_ms
    names = list(opened)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    worst = dict.fromkeys(names, 1.0)
    for number, x in enumerate(given):
        answers = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            answer, wall, cpu = timed(partial(opened[name][0], x))
            spent[name].append((wall, cpu))
            answers[name] = unit(answer.reshape(-1))
        for name in names:
            worst[name] = min(worst[name], float(answers[name] @ answers["float"]))
    shipped = np.median([cpu for _, cpu in spent[SHIPPED]])
    rows = []
    for name in names:
        wall, cpu = np.median(spent[name], axis=0)
        _, open_ms, first_ms = opened[name]
        rows.append(
            {
                "lane": name,
                "cpu_ms": round(cpu, 1),
                "ratio": round(cpu / shipped, 2),
                "wall_ms": round(wall, 1),
                "open_cpu_ms": round(open_ms),
                "first_cpu_ms": round(first_ms),
                "worst_cosine": round(worst[name], 4),
            }
        )
    return rows


def front_ends(given: list[Any]) -> list[dict[str, Any]]:
    runs: dict[str, Network] = {"numpy, as shipped": kaldi_fbank, "kaldi-native-fbank": kaldis_own()}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    farthest = 0.0
    for wave in given:
        answers = []
        for name, run in runs.items():
            answer, _, cpu = timed(partial(run, wave))
            spent[name].append(cpu)
            answers.append(answer)
        farthest = max(farthest, float(np.abs(answers[0] - answers[1]).max()))
    return [
        {
            "front end": name,
            "cpu_ms": round(float(np.median(times)), 2),
            "largest_difference": round(farthest, 5),
        }
        for name, times in spent.items()
    ]


MEMORY = """
import numpy as np
from pathlib import Path
from bench.checks import runtimes
def rss():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
import tempfile
with tempfile.TemporaryDirectory() as work:
    lane = next(l for l in runtimes.lanes(Path({models!r}), Path(work)) if l.name == {name!r})
    before = rss()
    network = lane.open()
    rng = np.random.default_rng(1)
    for frames in rng.integers(100, 600, 30):
        network(rng.standard_normal((int(frames), 80)).astype(np.float32))
    print(round(rss() - before))
"""


def memory(models: Path, name: str) -> int:
    """MiB that stay resident after thirty utterances of 1 to 6 s, in a fresh process."""
    code = MEMORY.format(models=str(models), name=name)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--models", type=Path, default=models_dir())
    parser.add_argument("--memory", action="store_true", help="how much each lane keeps resident, too; slow")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    speech = waves(given.rounds)
    with tempfile.TemporaryDirectory() as work:
        found = lanes(given.models, Path(work))
        rows = race(found, [kaldi_fbank(wave) for wave in speech], lambda text: print(text, file=sys.stderr))
    if given.memory:
        rows = [row | {"resident_mib": memory(given.models, row["lane"])} for row in rows]
    document = {"speaker": rows, "front_end": front_ends(speech)}
    if given.json:
        print(json.dumps(document, indent=1))
        return
    for table in document.values():
        heads = list(table[0])
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for row in table:
            print("| " + " | ".join(str(row[head]) for head in heads) + " |")
        print()


if __name__ == "__main__":
    main()
