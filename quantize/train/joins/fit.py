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
from device.liveness.join_pictures import FEATURES, SLOW, repeats
from device.liveness.joins import FRAME_S, LARGEST, REPEAT_FROM, JoinNetwork, speech_span, summaries
from quantize.evaluate.figures.calibrate import fit
from quantize.train.joins.network import Network
from quantize.train.joins.spliced import Example, examples
from sync.plain_file import plain_text

BESIDE, UNSURE = 2.0, 6.0
"""Frames beside a join that count as it, and that count as nothing."""
BATCH, EPOCHS, RATE, DECAY = 24, 4, 3e-3, 2e-2
JOIN_COUNTS = 8.0
"""A frame at a join against one that is at none."""
CROPPED, MASKED = 0.3, 0.3
CALIBRATES = 5
"""Every so manieth person of the fitting half."""


def _cropped(one: Example, dice):
    """(pictures, joins) without up to a quarter at either end."""
    pictures, joins = one.pictures.astype(np.float32), one.joins_s
    if dice is None or dice.random() >= CROPPED or len(pictures) <= 200:
        return pictures, joins
    first, last = (int(dice.integers(0, len(pictures) // 4)) // 2 * 2 for _ in range(2))
    last = len(pictures) - last
    inside = joins[(joins > first / 100 + 0.1) & (joins < last / 100 - 0.1)] - first / 100
    if one.spliced and not len(inside):
        return pictures, joins
    part = pictures[first:last]
    return part - part.mean(axis=0), inside


def _batch(chosen: list[Example], mean, scale, dice=None):
    """(pictures, which frames are there, which are speech, joins, which count), padded to one length."""
    parts = [_cropped(one, dice) for one in chosen]
    longest = max(len(pictures) for pictures, _ in parts) // 2 * 2
    seen = np.zeros((len(parts), longest, FEATURES), np.float32)
    there, speech, target, counts = np.zeros((4, len(parts), longest // 2), np.float32)
    for at, (pictures, joins) in enumerate(parts):
        frames = len(pictures) // 2
        scaled = ((pictures[: 2 * frames] - mean) / scale).clip(-LARGEST, LARGEST)
        if dice is not None and dice.random() < MASKED:
            width = int(dice.integers(2, 10))
            low = int(dice.integers(0, SLOW - width))
            scaled[:, low : low + width] = 0.0
        seen[at, : 2 * frames] = scaled
        there[at, :frames] = 1.0
        speech[at, speech_span(pictures[: 2 * frames])] = 1.0
        counts[at, :frames] = 1.0
        if len(joins):
            away = np.abs(np.arange(frames)[:, None] + 0.5 - joins / FRAME_S).min(axis=1)
            target[at, :frames] = away <= BESIDE
            counts[at, :frames] = (away <= BESIDE) | (away >= UNSURE)
    counts *= speech
    made = (np.ascontiguousarray(seen.transpose(0, 2, 1)), there, speech, target, counts)
    return [torch.from_numpy(part) for part in made]


def train(chosen: list[Example], epochs: int, seed: int = 1) -> dict[str, np.ndarray]:
    """The parts of a `JoinNetwork`; that something was pasted twice counts for nothing yet."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    dice = np.random.default_rng(seed)
    some = np.concatenate([one.pictures[::7] for one in chosen[::3]]).astype(np.float32)
    mean, scale = some.mean(axis=0), some.std(axis=0) + 1e-3
    net = Network()
    lengths = np.array([len(one.pictures) for one in chosen])
    batches = max(1, len(chosen) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=epochs * batches + 1, pct_start=0.2
    )
    for epoch in range(epochs):
        net.train()
        order = np.argsort(lengths * dice.uniform(0.85, 1.15, len(chosen)))
        drawn = [order[at : at + BATCH] for at in range(0, batches * BATCH, BATCH)]
        dice.shuffle(drawn)
        total = np.zeros(2)
        for numbers in drawn:
            them = [chosen[number] for number in numbers]
            pictures, there, speech, target, counts = _batch(them, mean, scale, dice)
            logits, whole = net(pictures, there, speech)
            weight = counts * (1 + (JOIN_COUNTS - 1) * target)
            at_frames = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            at_frames = (at_frames * weight).sum() / weight.sum()
            truth = torch.tensor([float(one.spliced) for one in them])
            in_all = functional.binary_cross_entropy_with_logits(whole, truth)
            optimiser.zero_grad(set_to_none=True)
            (at_frames + in_all).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            total += [at_frames.item(), in_all.item()]
        at_frames, in_all = total / batches
        _say(f"epoch {epoch + 1} of {epochs}: {at_frames:.4f} at frames, {in_all:.4f} in all")
    return net.parts(mean, scale)


def _network(parts: dict[str, np.ndarray]) -> JoinNetwork:
    return JoinNetwork.from_bytes(_bytes(parts))


def _bytes(parts: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


def calibrates(person: str) -> bool:
    return hashlib.sha256(f"joins {person}".encode()).digest()[0] % CALIBRATES == 0


def _evidence(network: JoinNetwork, pictures: np.ndarray) -> np.ndarray:
    """(what is pooled, the highest frames, what is repeated), each higher for a splice."""
    found = network.of_pictures(pictures)
    highest = summaries(found.frames)
    repeated = max(0.0, repeats(pictures) - REPEAT_FROM)
    pooled = -found.score - highest @ network.peaks - network.repeated[0] * repeated
    return np.array([pooled, *highest, repeated])


def write(out: Path, parts: dict[str, np.ndarray], judged: list[Example]) -> None:
    """The network into joins.npz, its map to an LLR into weights.toml.

    How much the highest frames and a repetition count beside what is pooled, and the map, are fitted on
    people whom the network has not heard: alone with those whom it has, it trusts what is pooled too much.
    """
    network = _network(parts)
    judged = [one for one in judged if one.spliced or one.kind in ("person", "pauses")]
    scores = -np.array([_evidence(network, one.pictures.astype(np.float32)) for one in judged])
    spliced = np.array([one.spliced for one in judged])
    line = fit(scores[~spliced], scores[spliced], prior=0.5)
    scale, offset = float(line.weights[0]), float(line.offset)
    beside = (line.weights[1:] / scale).astype(np.float16)
    parts |= {"peaks": beside[:-1], "repeated": beside[-1:]}
    scores = scores @ line.weights + offset
    for share in (0.005, 0.01, 0.02):
        bar = float(np.quantile(scores[~spliced], share))
        passed = np.mean(scores[spliced] >= bar)
        _say(f"{share:.1%} of {np.sum(~spliced)} refused at LLR {bar:+.2f}: {passed:.1%} splices pass")
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
    parser.add_argument("--examples", type=int, default=7_200)
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
