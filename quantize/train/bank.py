"""The bank: pooled patches of many renderings of every file, worked out once for all folds and heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from device.models._spoof_features import spoof_features
from quantize.train import corpus, splits
from quantize.train.augment import Augmenter, noises
from quantize.train.network import POOLED, Patches, learn_patches
from quantize.train.replay import rooms
from quantize.train.scoring import ALL_CONDITIONS, render

RATE_HZ = 16_000
CROPS_S = (1.2, 1.6, 2.4, 4.0)
PATCH_PAGES = ("an4", "asterisk")
"""Heard by the patch layer: people whom no fold holds out."""


def patch_layer(items, augment, path: Path) -> Patches:
    """The patch layer, learned at the first call and kept in `path`."""
    layer = Patches()
    if path.exists():
        layer.load_state_dict(torch.load(path, weights_only=True))
        return layer.eval()
    rng = np.random.default_rng(3)
    heard = [i for i in items if i.page in PATCH_PAGES and i.part == "train"]
    chosen = [heard[i] for i in rng.permutation(len(heard))[:250]]
    features = [spoof_features(augment(i, 2 * RATE_HZ, rng)[0]) for i in chosen]
    layer = learn_patches(features, rng)
    torch.save(layer.state_dict(), path)
    return layer


def pooled(layer, waves) -> np.ndarray:
    """Shape (n, POOLED), float32."""
    found = np.zeros((len(waves), POOLED), np.float32)
    with torch.inference_mode():
        for row, wave in zip(found, waves, strict=True):
            row[:] = layer(torch.from_numpy(spoof_features(wave))[None, None])[0].numpy()
    return found


def _keep(path: Path, make):
    if not path.exists():
        arrays = make()
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **arrays)
        temporary.replace(path)
    return np.load(path)


def fill(data: Path, attacks: Path, work: Path, passes: int) -> None:
    """Work out the bank; what is there already is kept, so an interrupted run goes on where it stopped."""
    torch.set_num_threads(1)
    items = corpus.load(data, attacks, work)
    train_rooms, test_rooms = rooms(data)
    train_noise, test_noise = noises(data)
    augment = Augmenter(train_rooms, train_noise)
    layer = patch_layer(items, augment, work / "patches.pt")
    judged = judging(items)

    def learn(number):
        rng = np.random.default_rng([5, number])
        vectors, labels = [], []
        for item in track(items, description=f"rendering, pass {number + 1}"):
            wave, replayed = augment(item, int(RATE_HZ * rng.choice(CROPS_S)), rng)
            vectors.append(pooled(layer, [wave])[0])
            labels.append(replayed)
        return {"pooled": np.array(vectors, np.float16), "replayed": np.array(labels)}

    def judge(condition):
        waves = (render(i, condition, test_rooms, test_noise) for i in judged)
        vectors = [pooled(layer, [w])[0] for w in track(waves, description=condition, total=len(judged))]
        return {"pooled": np.array(vectors, np.float32)}

    _keep(work / "train-0.npz", lambda: learn(0))
    for condition in ALL_CONDITIONS:
        _keep(work / f"judge-{condition}.npz", lambda c=condition: judge(c))
    for number in range(1, passes):
        _keep(work / f"train-{number}.npz", lambda n=number: learn(n))


def judging(items):
    """Every file that judges a fold or calibrates a model, once."""
    wanted = {i.path: i for fold in splits.FOLDS for i in splits.held_out(fold, items)}
    wanted |= {i.path: i for i in items if i.part == "calibration"}
    return [wanted[path] for path in sorted(wanted)]
