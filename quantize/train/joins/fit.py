"""Trains the network that hears where recordings were joined (`device/liveness/joins.py`).

    python -m quantize.train.joins --data SPEECH --work WORK [--out device/liveness]

Speakers of one half (`quantize.evaluate.figures.calibrate.fits`) are spliced; four fifths train, the others
calibrate. `ostiary evaluate --only splices` judges on the other half. Both classes go through the same rooms,
noises, loudspeakers and codecs, so that only the joins tell them apart.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import device.liveness
from device.liveness.joins import (
    BANDS,
    FEWER_UNITS,
    FRAME_S,
    INPUTS,
    SLOW,
    SUMMARIES,
    UNITS,
    JoinNetwork,
    speech_span,
    summaries,
    surroundings,
)
from quantize.evaluate.figures.calibrate import fit
from quantize.train.joins.spliced import Example, examples
from sync.plain_file import plain_text

BESIDE, UNSURE = 2.0, 6.0
"""Frames beside a join that count as it, and that count as nothing."""
BATCH, EPOCHS, RATE, STAGES = 512, 4, 2e-3, 2
OTHERS = 16
"""Frames of an example that are learned beside its joins."""
CALIBRATES = 5
"""Every so manieth person of the fitting half."""


def _targets(joins_s, frames):
    """(is there a join?, does the frame count?), each (frames,)."""
    target, counts = np.zeros(frames, bool), np.ones(frames, bool)
    middle = (np.arange(frames) + 0.5)[:, None]
    if len(joins_s):
        away = np.abs(middle - np.asarray(joins_s) / FRAME_S).min(axis=1)
        target = away <= BESIDE
        counts = target | (away >= UNSURE)
    return target, counts


def _drawn(chosen, dice):
    """(what the network weighs, whether it is a join) at every join and at some other frames."""
    inputs, truth = [], []
    for one in chosen:
        target, counts = _targets(one.joins_s, len(one.pictures))
        speech = speech_span(one.pictures.astype(np.float32))
        counts[: speech.start] = counts[speech.stop :] = False
        others = np.flatnonzero(counts & ~target)
        level = one.pictures[others, SLOW - BANDS : SLOW].astype(np.float32).mean(axis=1)
        dips = others[np.argsort(level)[: len(others) // 4]]  # between words, where a join would be
        some = (dice.choice(part, min(len(part), OTHERS // 2), replace=False) for part in (others, dips))
        frames = np.concatenate([np.flatnonzero(target), *some])
        around = surroundings(one.pictures.astype(np.float32))
        inputs.append(around[frames].astype(np.float16))
        truth.append(target[frames])
    return np.concatenate(inputs), np.concatenate(truth)


def _mistaken(network, chosen):
    """The frames of speech in one go that look most like joins, after a first training."""
    inputs = []
    for one in chosen:
        if not one.spliced:
            pictures = one.pictures.astype(np.float32)
            logits = network.of_pictures(pictures).frames
            worst = np.argsort(-logits)[:OTHERS]
            inputs.append(surroundings(pictures)[worst].astype(np.float16))
    return np.concatenate(inputs)


def train(chosen: list[Example], epochs: int, seed: int = 1) -> dict[str, np.ndarray]:
    """The parts of a `JoinNetwork` but for the line over its summaries, which is nothing yet."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    dice = np.random.default_rng(seed)
    inputs, truth = _drawn(chosen, dice)
    mean, scale = (inputs.astype(np.float32).mean(axis=0), inputs.astype(np.float32).std(axis=0) + 1e-3)
    net = nn.Sequential(
        nn.Dropout(0.1),
        nn.Linear(INPUTS, UNITS),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(UNITS, FEWER_UNITS),
        nn.ReLU(),
        nn.Linear(FEWER_UNITS, 1),
    )
    for stage in range(STAGES):
        if stage:
            network = _network(_parts(net, mean, scale))
            worst = _mistaken(network, chosen)
            inputs, truth = (
                np.concatenate([inputs, worst]),
                np.concatenate([truth, np.zeros(len(worst), bool)]),
            )
        _say(f"stage {stage + 1} of {STAGES}: {truth.sum()} frames at joins, {(~truth).sum()} elsewhere")
        optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
        steps = epochs * -(-len(truth) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(epochs):
            net.train()
            total = 0.0
            order = dice.permutation(len(truth))
            for at in range(0, len(order), BATCH):
                some = order[at : at + BATCH]
                scaled = ((inputs[some].astype(np.float32) - mean) / scale).clip(-5.0, 5.0)
                logits = net(torch.from_numpy(scaled))[:, 0]
                loss = functional.binary_cross_entropy_with_logits(
                    logits, torch.from_numpy(truth[some].astype(np.float32))
                )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(some) / len(truth)
            _say(f"epoch {epoch + 1} of {epochs}: {total:.4f}")
    return _parts(net, mean, scale)


def _parts(net, mean, scale) -> dict[str, np.ndarray]:
    """In half precision, by the names of `JoinNetwork`."""
    net.eval()
    parts = {
        "mean": mean,
        "scale": scale,
        "first": net[1].weight.T,
        "first_bias": net[1].bias,
        "second": net[4].weight.T,
        "second_bias": net[4].bias,
        "frame": net[6].weight[0],
        "frame_bias": net[6].bias,
        "whole": np.zeros(SUMMARIES),
        "whole_bias": np.zeros(1),
    }
    return {
        name: (part.detach().numpy() if isinstance(part, torch.Tensor) else part).astype(np.float16)
        for name, part in parts.items()
    }


def _bytes(parts: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


def _network(parts: dict[str, np.ndarray]) -> JoinNetwork:
    return JoinNetwork.from_bytes(_bytes(parts))


def calibrates(person: str) -> bool:
    return hashlib.sha256(f"joins {person}".encode()).digest()[0] % CALIBRATES == 0


def _line(people: np.ndarray, spliced: np.ndarray) -> np.ndarray:
    """Weights of the summaries, none below zero, by logistic regression with equal priors."""
    inputs = torch.from_numpy(np.concatenate([people, spliced]).astype(np.float32))
    spread = inputs.std(dim=0)
    truth = torch.cat([torch.ones(len(people)), torch.zeros(len(spliced))])
    each = torch.where(truth > 0, 0.5 / len(people), 0.5 / len(spliced))
    free = torch.zeros(SUMMARIES + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        logits = (inputs / spread) @ functional.softplus(free[:-1]) + 5.0 * free[-1]
        found = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none") @ each
        found = found + 1e-3 * functional.softplus(free[:-1]).square().sum()
        found.backward()
        return found

    optimiser.step(loss)
    weights: np.ndarray = (functional.softplus(free[:-1]) / spread).detach().numpy()
    return weights.astype(np.float32)


def write(out: Path, parts: dict[str, np.ndarray], judged: list[Example]) -> None:
    """The network into joins.npz, its map to an LLR into weights.toml.

    The line over the summaries is fitted on people whom the network has not heard.
    """
    network = _network(parts)
    found = [summaries(network.of_pictures(one.pictures.astype(np.float32)).frames) for one in judged]
    pairs = list(zip(found, judged, strict=True))
    people = np.array([score for score, one in pairs if one.kind in ("person", "pauses")])
    spliced = np.array([score for score, one in pairs if one.spliced])
    weights = _line(people, spliced)
    people, spliced = people @ weights, spliced @ weights
    line = fit(people, spliced, prior=0.5)
    scale, offset = float(line.weights[0]), float(line.offset)
    parts |= {"whole": weights}
    people, spliced = people * scale + offset, spliced * scale + offset
    for share in (0.005, 0.01, 0.02):
        bar = float(np.quantile(people, share))
        passed = np.mean(spliced >= bar)
        _say(f"{share:.1%} of {len(people)} refused at LLR {bar:+.2f}: {passed:.1%} splices pass")
    (out / "joins.npz").write_bytes(_bytes(parts))
    toml = out / "weights.toml"
    text = re.sub(r"\n\[joins\][^\[]*", "\n", plain_text(toml)).rstrip()
    text = re.sub(r'version = "[^"]*"', f'version = "liveness-{datetime.now(UTC):%Y%m%d}"', text)
    note = "# LLR of one go against a splice; `python -m quantize.train.joins`"
    toml.write_text(f"{text}\n\n[joins]            {note}\nscale = {scale:.4f}\noffset = {offset:.4f}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m quantize.train.joins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("--examples", type=int, default=2_400)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(device.liveness.__file__).parent)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    every = examples(args.data, args.work, args.examples, args.workers)
    _say(f"{len(every)} examples, {sum(one.spliced for one in every)} of them spliced")
    judged = [one for one in every if calibrates(one.person)]
    parts = train([one for one in every if not calibrates(one.person)], args.epochs)
    write(args.out, parts, judged)
