"""The bank: many renderings of every file, for whatever is trained on attacks.

A rendering depends on its pass and its file alone, so new files (a new attack, `update`) are rendered and
added while the others stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.envelopes import envelopes
from device.models.spoof.features import SHALLOW, spoof_features
from quantize.errors import QuantizeError
from quantize.train.networks.network import Patches
from quantize.train.speech import corpus
from quantize.train.speech.augment import Augmenter, noises
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.replay import rooms
from quantize.train.speech.scoring import render
from sync.plain_file import plain_path

CROPS_S = (1.2, 1.6, 2.4, 4.0)
PATCHES = "patches.pt"
"""The patch layer that everything in the bank was pooled with."""
Render = Callable[[Item], tuple[Wave, bool]]
"""A rendering of an item, and whether it went through a loudspeaker."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Of every file pooled patches, `vectors` (passes, files, POOLED), and `envelopes` (passes, files,
    STATISTICS); which renderings were replayed; and its envelopes as it is, `plain` (files, STATISTICS)."""

    place: dict[str, int]
    vectors: npt.NDArray[np.float16]
    envelopes: npt.NDArray[np.float16]
    replayed: npt.NDArray[np.bool_]
    plain: npt.NDArray[np.float16]

    @classmethod
    def load(cls, work: Path) -> Bank:
        """The training renderings in WORK; raises QuantizeError when there are none."""
        numbers = sorted({int(p.name[6:].split(".")[0]) for p in work.glob("train-*.npz")})
        if not numbers:
            raise QuantizeError("the bank is empty; run `python -m research.detector bank` first")
        passes = [_stored(work, f"train-{number}") for number in numbers]
        paths = [path for path in passes[0] if all(path in one for one in passes)]
        vectors, moves, replayed = (
            np.array([[one[path][k] for path in paths] for one in passes]) for k in range(3)
        )
        as_it_is = _stored(work, "judge-plain")
        plain = np.array([as_it_is[path][1] for path in paths])
        return cls({path: n for n, path in enumerate(paths)}, vectors, moves, replayed, plain)


@dataclass(frozen=True, slots=True)
class Held:
    """By path the pooled patches and the envelopes of a file in one condition."""

    found: dict[str, tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]]

    @classmethod
    def load(cls, work: Path, condition: str) -> Held:
        return cls(
            {
                path: (pooled, moves)
                for path, (pooled, moves, _) in _stored(work, f"judge-{condition}").items()
            }
        )

    def pooled(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Shape (n, POOLED), float32."""
        return np.array([self.found[i.path][0] for i in items], np.float32)

    def envelopes(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Shape (n, STATISTICS), float32."""
        return np.array([self.found[i.path][1] for i in items], np.float32)


def _files(work: Path, stem: str) -> list[Path]:
    return [*work.glob(f"{stem}.npz"), *sorted(work.glob(f"{stem}.[0-9]*.npz"))]


def _stored(work: Path, stem: str) -> dict[str, tuple[Any, ...]]:
    """Path -> (pooled patches, envelopes, whether it was replayed)."""
    found: dict[str, tuple[Any, ...]] = {}
    for file in _files(work, stem):
        held = np.load(plain_path(file))
        parts = (held[name] for name in ("paths", "pooled", "envelopes", "replayed"))
        found |= {str(path): tuple(each) for path, *each in zip(*parts, strict=True)}
    return found


def keep(work: Path, stem: str, items: Sequence[Item], layer: Patches, render_one: Render) -> None:
    """Render and pool the items that no file of this stem holds yet, into one more file. Raises OSError."""
    there = _files(work, stem)
    known = {path for file in there for path in np.load(plain_path(file))["paths"].tolist()}
    missing = [i for i in items if i.path not in known]
    if not missing:
        return
    vectors, moves, replayed = [], [], []
    for item in track(missing, description=stem):
        wave, aloud = render_one(item)
        vectors.append(pooled(layer, wave).astype(np.float16))
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
    """The patch layer that WORK's bank was pooled with. Raises OSError where there is none."""
    layer = Patches()
    layer.load_state_dict(torch.load(work / PATCHES, weights_only=True))
    layer.eval()
    return layer


def pooled(layer: Patches, wave: Wave) -> npt.NDArray[np.float32]:
    """Pooled patches of one wave, shape (POOLED,)."""
    with torch.inference_mode():
        level = spoof_features(wave)[None, SHALLOW : SHALLOW + 1]
        found: npt.NDArray[np.float32] = layer(torch.from_numpy(level))[0].numpy()
    return found


def fill(items: Sequence[Item], data: Path, work: Path, passes: int) -> None:
    """Render `items` as far as the bank in WORK lacks them: in `passes` drawn ways, and each as it is.

    WORK holds a patch layer. An interrupted run goes on where it stopped. Raises OSError.
    """
    torch.set_num_threads(1)
    augment, layer = Augmenter(rooms(data)[0], noises(data)[0]), patch_layer(work)
    for number in range(passes):

        def learn(item: Item, number: int = number) -> tuple[Wave, bool]:
            rng = np.random.default_rng([5, number, *hashlib.sha256(item.path.encode()).digest()[:8]])
            return augment(item, int(SAMPLE_RATE_HZ * rng.choice(CROPS_S)), rng)

        keep(work, f"train-{number}", corpus.training(items), layer, learn)
    keep(work, "judge-plain", items, layer, lambda item: (render(item, "plain", (), ()), False))
