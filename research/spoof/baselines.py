"""What simpler detectors do in the same rig: pooled LFCC, and pooled output of a Whisper encoder, each with a
logistic regression over it.

    python -m research.spoof baselines --data SPEECH --attacks ATTACKS --work WORK [--encoder FILE.onnx]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.fft import dct
from scipy.optimize import minimize

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.train.speech import corpus
from quantize.train.speech.scoring import eer
from research.detector import splits
from research.detector.scores import interval

FILTERS, KEPT = 40, 20
SECONDS = 6
FRAME_SAMPLES = 320


def lfcc(wave: np.ndarray) -> np.ndarray:
    """Mean and spread over time of 20 linear-frequency cepstra and their two differences: (120,)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hamming(400)
    power = np.abs(np.fft.rfft(frames, 512, axis=1)) ** 2
    centres = np.linspace(0, 256, FILTERS + 2)
    bins = np.arange(257)
    bank = np.stack([np.interp(bins, centres[i : i + 3], [0.0, 1.0, 0.0]) for i in range(FILTERS)])
    cepstra = dct(np.log(power @ bank.T + 1e-8), axis=1, norm="ortho")[:, :KEPT]
    first = np.gradient(cepstra, axis=0)
    whole = np.hstack([cepstra, first, np.gradient(first, axis=0)])
    return np.concatenate([whole.mean(axis=0), whole.std(axis=0)])


def logistic(x: np.ndarray, spoof: np.ndarray, penalty: float = 1e-2):
    """A scorer, higher for bona fide, from standardised rows with both classes of equal weight."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6

    def design(rows):
        return np.hstack([np.clip((rows - mean) / spread, -5, 5), np.ones((len(rows), 1))])

    z, sign = design(x), np.where(spoof, -1.0, 1.0)
    weight = np.where(spoof, 0.5 / spoof.mean(), 0.5 / (1 - spoof.mean()))

    def loss(w):
        margin = sign * (z @ w)
        slope = -sign / (1 + np.exp(np.clip(margin, -30, 30))) * weight
        return (
            (weight * np.logaddexp(0, -margin)).mean() + penalty * (w @ w),
            z.T @ slope / len(z) + 2 * penalty * w,
        )

    w = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda rows: design(rows) @ w


def encoder_statistics(path: Path):
    """Mean and spread over time of a Whisper encoder's last state, as the bundle's `words-encoder` gives it.

    That network hands out what its decoder attends to; the values of the first layer are the state, turned.
    """
    import onnxruntime

    from device.models.words.log_mel import log_mel

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), sess_options=options)
    name = session.get_inputs()[0].name

    def statistics(wave):
        mel = log_mel(wave, len(wave) // FRAME_SAMPLES)
        values = session.run(["values"], {name: mel})[0][0]
        states = values.transpose(1, 0, 2).reshape(values.shape[1], -1)
        return np.concatenate([states.mean(axis=0), states.std(axis=0)])

    return statistics


def judge(items, statistics):
    """(fold, page or 'pages', people, attacks, EER, interval) for every fold, on files it never heard."""
    held = {f.name: splits.held_out(f, items) for f in splits.FOLDS}
    wanted = {i.path: i for f in splits.FOLDS for i in (*splits.training(f, items), *held[f.name])}
    found = {
        p: statistics(i.wave[: SECONDS * SAMPLE_RATE_HZ].astype(np.float32) / 32768)
        for p, i in track(wanted.items(), description="statistics")
    }
    pooled = [[], []]
    for fold in splits.FOLDS:
        heard = splits.training(fold, items)
        model = logistic(np.array([found[i.path] for i in heard]), np.array([i.spoof for i in heard]))
        paged = [i for i in held[fold.name] if i.page in fold.pages]
        for item, score in zip(paged, model(np.array([found[i.path] for i in paged])), strict=True):
            pooled[int(item.spoof)].append((fold.name, score))
    for name in ("A", "B", None):
        people, attacks = ([s for f, s in side if name in (None, f)] for side in pooled)
        yield name or "both", np.array(people), np.array(attacks)


def baselines(args) -> None:
    items = corpus.load(args.data, args.attacks, args.work)
    table = Table("detector", "fold", "people", "attacks", "EER on unseen pages", "95 %")
    makers = {"pooled LFCC": lfcc}
    if args.encoder is not None:
        makers["pooled Whisper encoder"] = encoder_statistics(args.encoder)
    for name, statistics in makers.items():
        for fold, people, attacks in judge(items, statistics):
            low, high = interval(people, attacks)
            row = (name, fold, str(len(people)), str(len(attacks)))
            table.add_row(*row, f"{eer(people, attacks):.1%}", f"{low:.1%} - {high:.1%}")
    Console(width=110).print(table)
