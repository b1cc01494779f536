"""The shortcut probe: can the classes be told apart by what says nothing about synthesis?

    python -m research.spoof probe --data SPEECH --attacks ATTACKS --work WORK

Length, level, silence and bandwidth of each file, as stored and as the network hears it, go into a logistic
regression under the same folds as the detector. Near chance on held-out pages means that the splits offer no
short cut.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize

from device.models.spoof import features as front
from quantize.train.speech import corpus
from quantize.train.speech.scoring import eer
from research.detector import splits
from research.detector.scores import interval


def stored_cues(wave):
    """Length, level, peak, silence, and two measures of bandwidth of a file as it lies on disk."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::256]
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    level = 10 * np.log10(power.sum(axis=1) + 1e-12)
    spectrum = power.mean(axis=0) + 1e-14
    share = np.cumsum(spectrum) / spectrum.sum()
    silent = level < level.max() - 45
    return [
        np.log(len(wave)),
        np.log(wave.std() + 1e-9),
        np.log(np.abs(wave).max() / (wave.std() + 1e-9)),
        silent.mean(),
        float(np.argmax(~silent)) / 60,
        float(np.argmax(~silent[::-1])) / 60,
        level.min() / 20,
        float(np.searchsorted(share, 0.99)) / 100,
        np.log(spectrum[224:].mean() / spectrum[100:200].mean()) / 5,
    ]


def heard_cues(wave):
    """The same of the picture that answers for synthesis: length, quiet share, motion across the band."""
    features = front.spoof_features(wave)[front.SHALLOW]
    level = features.mean(axis=0)
    motion = features.std(axis=1)
    return [
        np.log(features.shape[1]),
        level.std(),
        (level < level.max() - 1.5).mean(),
        level.min(),
        motion[-32:].mean() / motion.mean(),
        motion[:16].mean() / motion.mean(),
    ]


def _fit(cues, labels):
    mean, spread = cues.mean(axis=0), cues.std(axis=0) + 1e-9
    share = labels.mean()
    weight = np.where(labels > 0, 0.5 / share, 0.5 / (1 - share))

    def design(x):
        z = np.clip((x - mean) / spread, -4, 4)
        return np.hstack([z, z**2, np.ones((len(z), 1))])

    x, sign = design(cues), np.where(labels > 0, -1.0, 1.0)

    def loss(w):
        margin = sign * (x @ w)
        slope = -sign / (1 + np.exp(margin)) * weight
        return (weight * np.logaddexp(0, -margin)).mean() + 1e-3 * (w @ w), x.T @ slope / len(x) + 2e-3 * w

    w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda cues: design(cues) @ w


def probe(args) -> None:
    items = corpus.load(args.data, args.attacks, args.work)
    console = Console(width=110)
    table = Table("fold", "cues", "training files", "unseen files", "95 %", title="EER of the shortcut probe")
    found = {"as stored": {}, "as heard": {}}
    packaged = {name for name, *_ in corpus.PACKAGED}
    for item in track(items, description="cues"):
        if item.page in packaged:
            continue
        root = args.attacks if item.page == "made" else args.data
        found["as stored"][item.path] = stored_cues(corpus.read_wave(root / item.path))
        found["as heard"][item.path] = heard_cues(item.wave.astype(np.float32) / 32768)
    for name, cues in found.items():
        for fold in splits.FOLDS:
            heard = [i for i in splits.training(fold, items) if i.path in cues]
            away = [i for i in splits.held_out(fold, items) if i.path in cues]
            model = _fit(np.array([cues[i.path] for i in heard]), np.array([i.spoof for i in heard], float))
            sides = []
            for group in (heard, away):
                scores = model(np.array([cues[i.path] for i in group]))
                spoof = np.array([i.spoof for i in group])
                sides.append((scores[~spoof], scores[spoof]))
            low, high = interval(*sides[1])
            table.add_row(
                fold.name, name, f"{eer(*sides[0]):.1%}", f"{eer(*sides[1]):.1%}", f"{low:.1%} - {high:.1%}"
            )
    console.print(table)
