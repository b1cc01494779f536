"""CAM++ with fewer channels or fewer weights, without training: how much speed, at what price.

    .venv/bin/python -m research.pruning --data DIR --rounds 15

`DIR` holds manifest.tsv. Structured: hidden channels whose loss costs least go first, and the weights that
read them make up for it on the calibration speech (the optimal brain surgeon of Hassibi and Stork 1993, a
channel at a time). Unstructured: the smallest weights become zero. Each variant goes through the product's
own quantiser and TFLite writer. Equal error rates are those of the fitting speakers, trials within a corpus;
times are processor milliseconds for 3.6 to 4.4 s of speech, all variants in turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bench.checks.runtimes import timed, waves
from device.model_store.calibration import Calibration
from device.model_store.sessions import OnnxSession, Session, TfliteSession
from device.models.features import kaldi_fbank
from device.models.speaker import SpeakerModel, unit
from quantize.evaluate.checks.scoring import Reader, embed_all
from quantize.evaluate.checks.speaker import score_matrix
from quantize.evaluate.figures.metrics import Ranked, eer
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.evaluate.recordings.trials import SpeakerPlan, speaker_plan
from quantize.graphs import campplus
from quantize.graphs.builder import Weights
from quantize.int8.calibrate import listen
from quantize.int8.graph import quantise
from quantize.parity import pieces
from quantize.speech import packaged_speech, parity_speech
from quantize.tflite.lower import lower
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.fetch import fetch
from research.fits.speaker import split

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Hidden:
    """One layer of channels that nothing reads but `readers`: `makers` lose rows, `readers` columns."""

    relu: str
    makers: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """How many of a dense layer's 128 and of a residual block's 32 channels stay; the share of zeros."""

    name: str
    bottleneck: int = 128
    head: int = 32
    zeros: float = 0.0


VARIANTS = (
    Variant("as shipped"),
    Variant("bottlenecks of 112 channels", bottleneck=112),
    Variant("bottlenecks of 96", bottleneck=96),
    Variant("bottlenecks of 64", bottleneck=64),
    Variant("residual blocks of 24", head=24),
    Variant("residual blocks of 16", head=16),
    Variant("bottlenecks of 96, blocks of 24", bottleneck=96, head=24),
    Variant("half of the weights zero", zeros=0.5),
)


def hidden_layers() -> Iterator[tuple[str, Hidden]]:
    """Every prunable layer with its kind."""
    norm = ("weight", "bias", "running_mean", "running_var")
    for layer in ("head.layer1", "head.layer2"):
        for block in (f"{layer}.0", f"{layer}.1"):
            makers = (f"{block}.conv1.weight", *(f"{block}.bn1.{part}" for part in norm))
            yield "head", Hidden(f"{block}.conv1.relu", makers, (f"{block}.conv2.weight",))
    for number, (layers, _, _) in enumerate(campplus.BLOCKS, start=1):
        for at in range(1, layers + 1):
            dense = f"xvector.block{number}.tdnnd{at}"
            makers = (f"{dense}.linear1.weight", *(f"{dense}.nonlinear2.batchnorm.{p}" for p in norm))
            readers = tuple(f"{dense}.cam_layer.{name}.weight" for name in ("linear_local", "linear1"))
            yield "bottleneck", Hidden(f"{dense}.linear1.relu", makers, readers)


def second_moments(model: onnx.ModelProto, names: list[str], feeds: list[Feed]) -> dict[str, Array]:
    """Of the channels of each named tensor: (channels, channels), over all feeds."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = OnnxSession(probe.SerializeToString(), threads=1)
    sums: dict[str, Array] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(dict(feed))[-len(names) :], strict=True):
            channels = value[0].reshape(value.shape[1], -1).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + channels @ channels.T
    return sums


def thinned(weights: Weights, layer: Hidden, moments: Array, keep: int) -> dict[str, Array]:
    """What changes when `layer` keeps so many channels; the readers make up for the rest by least squares."""
    # All taps of all readers as rows over the channels; the mask's reader sees averages and weighs little.
    rows = [np.moveaxis(weights[name].astype(np.float64), 1, -1) for name in layer.readers]
    stacked = np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows])
    left = list(range(len(moments)))
    inverse = np.linalg.inv(moments + 1e-4 * np.trace(moments) / len(moments) * np.eye(len(moments)))
    while len(left) > keep:
        costs = (stacked[:, left] ** 2).sum(axis=0) / np.diag(inverse)[left]
        gone = left.pop(int(np.argmin(costs)))
        row = inverse[gone] / inverse[gone, gone]
        stacked -= np.outer(stacked[:, gone], row)
        inverse -= np.outer(inverse[:, gone], row)
    changed = {name: weights[name][left] for name in layer.makers if name in weights}
    at = 0
    for name, row in zip(layer.readers, rows, strict=True):
        size = row.size // row.shape[-1]
        kernel = stacked[at : at + size, left].reshape(*row.shape[:-1], keep)
        changed[name] = np.moveaxis(kernel, -1, 1).astype(np.float32)
        at += size
    return changed


def varied(weights: Weights, variant: Variant, moments: Mapping[str, Array]) -> Weights:
    made = dict(weights)
    for kind, layer in hidden_layers():
        keep = getattr(variant, kind)
        if keep < len(moments[layer.relu]):
            made |= thinned(weights, layer, moments[layer.relu], keep)
    if variant.zeros:
        for name, value in weights.items():
            if value.ndim >= 3:
                made[name] = np.where(np.abs(value) > np.quantile(np.abs(value), variant.zeros), value, 0)
    return made


def equal_error_rates(model: SpeakerModel, plan: SpeakerPlan, reader: Reader) -> float:
    """Of the fitting speakers."""
    matrix = score_matrix(plan, embed_all(model, plan.recordings(), reader, lambda: None))
    halves = split(matrix, plan)
    same, other = (matrix.scores[halves.fitting & of] for of in (halves.same, ~halves.same))
    return eer(Ranked(same, other).curve())


def race(networks: dict[str, Session], rounds: int) -> dict[str, float]:
    """Median processor milliseconds of each, in turns."""
    spent: dict[str, list[float]] = {name: [] for name in networks}
    names = list(networks)
    for number, wave in enumerate(waves(rounds + 2)):
        given = {"features": kaldi_fbank(wave)[np.newaxis]}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            spent[name].append(timed(partial(networks[name].run, given))[2])
    return {name: float(np.median(times[2:])) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="development speech; without it no error rates")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", type=int, nargs="*", help="these variants, by their place in the table")
    given = parser.parse_args()
    chosen = [VARIANTS[at] for at in given.only] if given.only else list(VARIANTS)
    weights = read_tensors(fetch("campplus"))
    exact = campplus.build(weights)
    feeds: list[Feed] = [
        {"features": kaldi_fbank(clip.wave)[np.newaxis]} for clip in packaged_speech().clips()[::2]
    ]
    moments = second_moments(exact, [layer.relu for _, layer in hidden_layers()], feeds)
    speech = [kaldi_fbank(piece)[np.newaxis] for clip in parity_speech().clips() for piece in pieces(clip)]
    reference = OnnxSession(exact.SerializeToString())
    wanted = np.stack([unit(reference.run({"features": one})[0].reshape(-1)) for one in speech])
    plan = reader = None
    if given.data is not None:
        plan = speaker_plan(read_manifest(given.data / "manifest.tsv", given.data))
        reader = Reader(given.data)
    onnx_sessions: dict[str, Session] = {}
    tflite_sessions: dict[str, Session] = {}
    rows: list[tuple[str, float, float, float, float]] = []
    for variant in chosen:
        thinner = campplus.build(varied(weights, variant, moments))
        known = listen(thinner, feeds, keep_float=campplus.SENSITIVE)
        small = quantise(thinner, known, keep_float=campplus.SENSITIVE)
        data = small.SerializeToString()
        onnx_sessions[variant.name] = session = OnnxSession(data, 1)
        tflite_sessions[variant.name] = TfliteSession(lower(small), 1, xnnpack=True)
        found = np.stack([unit(session.run({"features": one})[0].reshape(-1)) for one in speech])
        cosines = (found * wanted).sum(axis=1)
        rate = float("nan")
        if plan is not None and reader is not None:
            model = SpeakerModel(tflite_sessions[variant.name], Calibration(1.0, 0.0), variant.name)
            rate = equal_error_rates(model, plan, reader)
        rows.append((variant.name, len(data) / 1e6, cosines.mean(), cosines.min(), rate))
        print(f"made {variant.name}: cosine {cosines.mean():.4f}, EER {100 * rate:.2f} %", flush=True)
    times = [race(sessions, given.rounds) for sessions in (onnx_sessions, tflite_sessions)]
    base = chosen[0].name
    print("| variant | MB | mean cosine to float | lowest | EER | ONNX ms | ratio | XNNPACK ms | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, size, mean, low, rate in rows:
        ms = " | ".join(f"{time[name]:.1f} | {time[name] / time[base]:.2f}" for time in times)
        print(f"| {name} | {size:.1f} | {mean:.4f} | {low:.4f} | {100 * rate:.2f} % | {ms} |")


if __name__ == "__main__":
    main()
