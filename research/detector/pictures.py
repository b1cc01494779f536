"""Renderings of every file for the second network, worked out once for all folds and kept in eight bits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.features import LIMIT, pictures, together
from quantize.errors import QuantizeError
from quantize.train.speech.augment import Augmenter, noises
from quantize.train.speech.replay import rooms
from sync.plain_file import plain_path

CROPS_S = (1.2, 1.6, 2.4, 3.2)
STEP = LIMIT / 127
PASSES = (
    {"strength": 0.4},
    {"strength": 0.4},
    {"strength": 0.8, "replay_odds": 0.5, "room_odds": 0.6},
)
"""How the passes differ: easy ones first, then one in which a loudspeaker must be told from a mere room."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Renderings one after the other: `found` (frames, 3, BINS) int8, `lines` (renderings, BINS)."""

    paths: np.ndarray
    lengths: np.ndarray
    found: np.ndarray
    lines: np.ndarray
    replayed: np.ndarray

    @classmethod
    def load(cls, files) -> Pictures:
        parts = [np.load(plain_path(f)) for f in files]
        return cls(*(np.concatenate([p[name] for p in parts]) for name in cls.__slots__))

    @classmethod
    def training(cls, work: Path) -> Pictures:
        """Every pass; raises QuantizeError when one is missing."""
        files = [work / f"pictures-{number}.npz" for number in range(len(PASSES))]
        if not all(f.exists() for f in files):
            raise QuantizeError("renderings are missing; run `python -m research.detector bank` first")
        return cls.load(files)

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def places(self) -> dict[str, list[int]]:
        """Where each file's renderings are."""
        found: dict[str, list[int]] = {}
        for place, path in enumerate(self.paths.tolist()):
            found.setdefault(path, []).append(place)
        return found

    def features(self, start, length, line):
        """Features of one stored rendering, or of a part of it, shape (PICTURES, BINS, frames)."""
        found = self.found[start : start + length].astype(np.float32) * np.float32(STEP)
        return together(found, self.lines[line].astype(np.float32))


def fill(items, data: Path, work: Path) -> None:
    """Render each pass that WORK lacks; an interrupted run goes on where it stopped."""
    (train_rooms, _), (train_noise, _) = rooms(data), noises(data)
    heard = [i for i in items if i.part == "train"]
    for number, how in enumerate(PASSES):
        path = work / f"pictures-{number}.npz"
        if not path.exists():
            augment = Augmenter(train_rooms, train_noise, **how)
            _write(path, [i.path for i in heard], _render(heard, augment, number))


def _render(items, augment, number: int):
    for item in track(items, description=f"pictures, pass {number + 1}"):
        rng = np.random.default_rng([number, *hashlib.sha256(item.path.encode()).digest()[:8]])
        wave, replayed = augment(item, int(SAMPLE_RATE_HZ * rng.choice(CROPS_S)), rng)
        yield (*pictures(wave), replayed)


def _write(path: Path, paths, renderings) -> None:
    found, lines, replayed = [], [], []
    for picture, line, aloud in renderings:
        found.append(np.round(picture / STEP).astype(np.int8))
        lines.append(line.astype(np.float16))
        replayed.append(aloud)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        paths=np.array(paths),
        lengths=np.array([len(f) for f in found]),
        found=np.concatenate(found),
        lines=np.array(lines),
        replayed=np.array(replayed),
    )
    temporary.replace(path)
