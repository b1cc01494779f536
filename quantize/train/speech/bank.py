"""The bank: many renderings of every file, as what learns from attacks hears them, for all folds at once.

Every rendering depends on its pass and its file alone, so new files (a new attack, `update`) are rendered and
added while the others stay as they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.envelopes import envelopes
from device.models.spoof.features import SHALLOW, spoof_features
from quantize.errors import QuantizeError
from quantize.train.networks.network import POOLED, Patches, learn_patches
from quantize.train.speech import corpus, pictures, splits
from quantize.train.speech.augment import Augmenter, noises
from quantize.train.speech.replay import rooms
from quantize.train.speech.scoring import render
from sync.plain_file import plain_path

CROPS_S = (1.2, 1.6, 2.4, 4.0)
PATCH_PAGES = ("an4", "asterisk")
"""Heard by the patch layer: people whom no fold holds out."""
JUDGED = ("plain", "replayed")
"""Conditions kept, the first of every file; the folds are judged in more of them, afresh."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Of every file pooled patches, `vectors` (passes, files, POOLED), and `envelopes` (passes, files,
    STATISTICS); which renderings were replayed; and its envelopes as it is, `plain` (files, STATISTICS)."""

    place: dict[str, int]
    vectors: np.ndarray
    envelopes: np.ndarray
    replayed: np.ndarray
    plain: np.ndarray

    @classmethod
    def load(cls, work: Path) -> Bank:
        """The training renderings in WORK; raises QuantizeError when there are none."""
        numbers = sorted({int(p.name[6:].split(".")[0]) for p in work.glob("train-*.npz")})
        if not numbers:
            raise QuantizeError("the bank is empty; run `python -m quantize.train bank` first")
        passes = [_stored(work, f"train-{number}") for number in numbers]
        paths = [path for path in passes[0] if all(path in one for one in passes)]
        parts = [np.array([[one[path][k] for path in paths] for one in passes]) for k in range(3)]
        as_it_is = _stored(work, "judge-plain")
        plain = np.array([as_it_is[path][1] for path in paths])
        return cls({path: n for n, path in enumerate(paths)}, *parts, plain)


@dataclass(frozen=True, slots=True)
class Held:
    """By path the pooled patches and the envelopes of a file in one condition of `JUDGED`."""

    found: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def load(cls, work: Path, condition: str) -> Held:
        return cls(
            {
                path: (pooled, moves)
                for path, (pooled, moves, _) in _stored(work, f"judge-{condition}").items()
            }
        )

    def pooled(self, items) -> np.ndarray:
        """Shape (n, POOLED), float32."""
        return np.array([self.found[i.path][0] for i in items], np.float32)

    def envelopes(self, items) -> np.ndarray:
        """Shape (n, STATISTICS), float32."""
        return np.array([self.found[i.path][1] for i in items], np.float32)


def _files(work: Path, stem: str) -> list[Path]:
    return [*work.glob(f"{stem}.npz"), *sorted(work.glob(f"{stem}.[0-9]*.npz"))]


def _stored(work: Path, stem: str):
    """Path -> (pooled patches, envelopes, whether it was replayed)."""
    found = {}
    for file in _files(work, stem):
        held = np.load(plain_path(file))
        parts = (held[name] for name in ("paths", "pooled", "envelopes", "replayed"))
        found |= {str(path): each for path, *each in zip(*parts, strict=True)}
    return found


def keep(work: Path, stem: str, items, layer, render_one) -> None:
    """Render and pool what no file of this stem holds yet, into one more file."""
    there = _files(work, stem)
    known = {path for file in there for path in np.load(plain_path(file))["paths"].tolist()}
    missing = [i for i in items if i.path not in known]
    if not missing:
        return
    vectors, moves, replayed = [], [], []
    for item in track(missing, description=stem):
        wave, aloud = render_one(item)
        vectors.append(pooled(layer, [wave])[0].astype(np.float16))
        moves.append(envelopes(wave).astype(np.float16))
        replayed.append(aloud)
    partial = work / "partial.npz"
    np.savez(
        partial,
        paths=np.array([i.path for i in missing]),
        pooled=np.array(vectors),
        envelopes=np.array(moves),
        replayed=np.array(replayed),
    )
    partial.replace(work / f"{stem}{f'.{len(there)}' if there else ''}.npz")


def patch_layer(work: Path) -> Patches:
    """What the bank was pooled with."""
    layer = Patches()
    layer.load_state_dict(torch.load(work / "patches.pt", weights_only=True))
    return layer.eval()


def _learned(items, augment, work: Path) -> Patches:
    """The patch layer, learned at the first call and kept in WORK."""
    if (work / "patches.pt").exists():
        return patch_layer(work)
    rng = np.random.default_rng(3)
    heard = [i for i in items if i.page in PATCH_PAGES and i.part == "train"]
    chosen = [heard[i] for i in rng.permutation(len(heard))[:250]]
    features = [spoof_features(augment(i, 2 * SAMPLE_RATE_HZ, rng)[0])[SHALLOW] for i in chosen]
    layer = learn_patches(features, rng)
    torch.save(layer.state_dict(), work / "patches.pt")
    return layer


def pooled(layer, waves) -> np.ndarray:
    """Shape (n, POOLED), float32."""
    found = np.zeros((len(waves), POOLED), np.float32)
    with torch.inference_mode():
        for row, wave in zip(found, waves, strict=True):
            row[:] = layer(torch.from_numpy(spoof_features(wave)[None, SHALLOW : SHALLOW + 1]))[0].numpy()
    return found


def fill(data: Path, attacks: Path, work: Path, passes: int, second: bool = True) -> None:
    """Work out what the bank lacks; an interrupted run goes on where it stopped.

    `second` says whether the second network's pictures are wanted too.
    """
    torch.set_num_threads(1)
    items = corpus.load(data, attacks, work)
    train_rooms, test_rooms = rooms(data)
    train_noise, test_noise = noises(data)
    augment = Augmenter(train_rooms, train_noise)
    layer = _learned(items, augment, work)
    for number in range(passes):

        def learn(item, number=number):
            rng = np.random.default_rng([5, number, *hashlib.sha256(item.path.encode()).digest()[:8]])
            return augment(item, int(SAMPLE_RATE_HZ * rng.choice(CROPS_S)), rng)

        keep(work, f"train-{number}", [i for i in items if i.part == "train"], layer, learn)
    for condition in JUDGED:

        def judge(item, condition=condition):
            return render(item, condition, test_rooms, test_noise), condition == "replayed"

        wanted = items if condition == "plain" else judging(items)
        keep(work, f"judge-{condition}", wanted, layer, judge)
    if second:
        pictures.fill(items, data, work)


def judging(items):
    """Every file that judges a fold or calibrates a model, once."""
    wanted = {i.path: i for fold in splits.FOLDS for i in splits.held_out(fold, items)}
    wanted |= {i.path: i for i in items if i.part == "calibration"}
    return [wanted[path] for path in sorted(wanted)]
