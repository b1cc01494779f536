"""Trains the network that hears where recordings were joined (`device/liveness/joins.py`).

    python -m research.joins --data SPEECH --work WORK [--out device/liveness]

Speakers of one half (`quantize.evaluate.figures.calibrate.fits`) are spliced; four fifths train, the others
calibrate. `ostiary evaluate --only splices` judges on the other half. Both classes go through the same rooms,
noises, loudspeakers and codecs, so that only the joins tell them apart.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import device.liveness
from device.liveness.joins import JoinNetwork
from quantize.evaluate.figures.calibrate import Linear, fit
from research.joins.batches import batch
from research.joins.further import further, packed, several
from research.joins.judged import evidence
from research.joins.network import Network
from research.joins.spliced import VOICES, WARD, Example, beside_sounds, calibrates, examples
from sync.plain_file import plain_text

BATCH, EPOCHS, RATE, DECAY = 24, 5, 3e-3, 2e-2
FURTHER_EPOCHS = 2.5
JOIN_COUNTS = 8.0
"""A frame at a join against one that is at none."""


def train(chosen: list[Example], epochs: int, seed: int = 1) -> JoinNetwork:
    """From nothing; that something was pasted twice counts for nothing yet."""
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
            pictures, there, speech, target, counts = batch(them, mean, scale, dice)
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
    return JoinNetwork.from_bytes(packed(net.parts(mean, scale)))


def write(
    out: Path,
    networks: Sequence[JoinNetwork],
    judged: list[Example],
    weigh: Callable[..., Linear] = fit,
) -> None:
    """The networks into joins.npz, the map of their mean to an LLR into weights.toml.

    How much the highest frames and a repetition count beside what is pooled, and the maps, are fitted on
    people whom no network has heard: alone with those whom it has, one trusts what is pooled too much.
    """
    judged = [one for one in judged if one.spliced or one.kind in ("person", "pauses")]
    spliced = np.array([one.spliced for one in judged])
    weighed, means = [], np.zeros(len(judged))
    for network in networks:
        found = -np.array([evidence(network, one.pictures.astype(np.float32)) for one in judged])
        line = weigh(found[~spliced], found[spliced], prior=0.5)
        means += (found @ line.weights + line.offset) / len(networks)
        weighed.append(_weighed(network, line))
    line = weigh(means[~spliced, None], means[spliced, None], prior=0.5)
    scale, offset = float(line.weights[0]), float(line.offset)
    llrs = means * scale + offset
    for share in (0.005, 0.01, 0.02):
        bar = float(np.quantile(llrs[~spliced], share))
        passed = np.mean(llrs[spliced] >= bar)
        _say(f"{share:.1%} of {np.sum(~spliced)} refused at LLR {bar:+.2f}: {passed:.1%} splices pass")
    (out / "joins.npz").write_bytes(several(weighed))
    toml = out / "weights.toml"
    text = re.sub(r"\n\[joins\][^\[]*", "\n", plain_text(toml)).rstrip()
    text = re.sub(r'version = "[^"]*"', f'version = "liveness-{datetime.now(UTC):%Y%m%d}"', text)
    note = "# LLR of one go against a splice; `python -m research.joins`"
    toml.write_text(f"{text}\n\n[joins]            {note}\nscale = {scale:.4f}\noffset = {offset:.4f}\n")


def _weighed(network: JoinNetwork, line: Linear) -> JoinNetwork:
    """The same network, whose score is the LLR that `line` gives to its evidence."""
    pooled, *highest, repeated = line.weights.astype(np.float32)
    return replace(
        network,
        last=network.last * pooled,
        last_bias=network.last_bias * pooled - np.float32(line.offset),
        peaks=np.array(highest, np.float32),
        repeated=np.array([repeated], np.float32),
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.joins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("--examples", type=int, default=17_500)
    parser.add_argument(
        "--beside", type=int, default=5_000, help="examples beside voices, and as many in wards"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(device.liveness.__file__).parent)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    usual = examples(args.data, args.work, args.examples, args.workers)
    beside = [
        one for kind in (VOICES, WARD) for one in beside_sounds(args.data, args.work, kind, args.beside)
    ]
    _say(f"{len(usual)} examples, and {len(beside)} beside voices and sounds of a ward")
    taught = [one for one in usual if not calibrates(one.person)]
    loud = [one for one in beside if not calibrates(one.person)]
    network = train(taught, args.epochs)
    network = further(network, loud + taught[::2], FURTHER_EPOCHS)
    write(args.out, [network], [one for one in (*usual, *beside) if calibrates(one.person)])
