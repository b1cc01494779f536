"""How well the words check tells right phrases from wrong ones, and the weights of its clues.

    P="python bench/phrase.py"
    $P collect --data DIR --model FILE --half fit --out fit.jsonl
    $P collect --data DIR --model FILE --half test --out test.jsonl
    $P noise --data DIR --model FILE --out noise.jsonl
    $P fit fit.jsonl                  # the weights of Fusion
    $P report test.jsonl noise.jsonl   # error rates with intervals by speaker

Speakers are split by the parity of SHA-256(speaker): even ones fit, odd ones test. Trials: each recording
with its own text (right), with one word replaced (near), with another text of its corpus (wrong).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from device.models.transcriber import Clues, Fusion, Transcriber
from device.phrase import competitors, normalise

RATE_HZ = 16_000
Trial = tuple[str, dict[str, str], str]
"""Kind, recording, expected phrase."""
CORPORA = ("an4", "so762")


def spoken(data: Path, half: str) -> list[dict[str, str]]:
    """Recordings with a transcript, of the speakers of one half."""
    with (data / "manifest.tsv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["text"].strip()]
    parity = {"fit": 0, "test": 1}[half]
    return [
        row
        for row in rows
        if row["path"].split("/")[0] in CORPORA
        and int(hashlib.sha256(row["speaker"].encode()).hexdigest(), 16) % 2 == parity
    ]


def trials(rows: list[dict[str, str]], every_near: int, every_wrong: int) -> Iterator[Trial]:
    """Every trial of these recordings; any beginning of it is a fair sample."""
    dice = random.Random(7)
    order = sorted(rows, key=lambda row: hashlib.sha256(row["path"].encode()).digest())
    for at, row in enumerate(order):
        yield "right", row, row["text"]
        if at % every_near == 0:
            yield "near", row, competitors(row["text"], 6)[-2]
        if at % every_wrong == 0:
            others = [
                other["text"]
                for other in rows
                if other["path"].split("/")[0] == row["path"].split("/")[0]
                and normalise(other["text"]) != normalise(row["text"])
            ]
            yield "wrong", row, dice.choice(others)


def collect(options: argparse.Namespace) -> None:
    transcriber = Transcriber(options.model, threads=options.threads)
    with options.out.open("w", encoding="utf-8") as out:
        for kind, row, phrase in trials(spoken(options.data, options.half), options.near, options.wrong):
            wave = read(options.data / row["path"])
            clues, transcript = transcriber.clues(wave, phrase)
            record = {
                "kind": kind, "corpus": row["path"].split("/")[0], "speaker": row["speaker"],
                "path": row["path"],
                "phrase": phrase, "transcript": transcript, "seconds": len(wave) / RATE_HZ, **asdict(clues),
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
            out.flush()


def read(path: Path) -> npt.NDArray[np.float32]:
    wave, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != RATE_HZ or wave.ndim != 1:
        raise SystemExit(f"{path} is not 16 kHz mono")
    return np.asarray(wave, dtype=np.float32)


def noise(options: argparse.Namespace) -> None:
    """Clips in which nobody says the phrase: noise, babble of six people, silence, hiss, a hum."""
    transcriber = Transcriber(options.model, threads=options.threads)
    phrases = [row["text"] for row in spoken(options.data, "test")]
    dice = random.Random(11)
    with options.out.open("w", encoding="utf-8") as out:
        for kind, clip in clips(options.data, options.count):
            phrase = dice.choice(phrases)
            clues, transcript = transcriber.clues(clip, phrase)
            record = {
                "kind": kind,
                "corpus": "noise",
                "speaker": kind,
                "phrase": phrase,
                "transcript": transcript,
            }
            out.write(json.dumps({**record, **asdict(clues)}) + "\n")
            out.flush()


def clips(data: Path, count: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """`count` clips of 2 to 5 s, the kinds in turn."""
    dice = np.random.default_rng(3)
    noises = sorted((data / "noise").glob("*.flac"))
    voices = sorted((data / "libri").glob("*/*.flac"))
    for at in range(count):
        length = int(dice.uniform(2.0, 5.0) * RATE_HZ)
        kind = ("noise", "babble", "silence", "hiss", "hum")[at % 5]
        clip = np.zeros(length)
        if kind == "noise":
            clip = cut(read(noises[dice.integers(len(noises))]), length, dice)
        elif kind == "babble":
            clip = (
                np.mean([cut(read(voices[i]), length, dice) for i in dice.choice(len(voices), 6)], axis=0) * 2
            )
        elif kind == "hiss":
            clip = dice.normal(0.0, 10 ** dice.uniform(-4, -1), length)
        elif kind == "hum":
            clip = 0.1 * np.sin(2 * np.pi * dice.choice([50.0, 60.0, 440.0]) * np.arange(length) / RATE_HZ)
        yield kind, np.clip(clip, -1.0, 1.0).astype(np.float32)


def cut(wave: npt.NDArray[np.float32], length: int, dice: np.random.Generator) -> npt.NDArray[np.float32]:
    wave = np.resize(wave, max(length, len(wave)))
    start = int(dice.integers(len(wave) - length + 1))
    return wave[start : start + length]


def clues_of(record: dict[str, Any]) -> Clues:
    return Clues(**{name: record[name] for name in Clues.__dataclass_fields__})


def load(paths: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def weights(records: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Equal priors for right and not; of the latter a fifth near misses; every corpus counts alike."""
    shares = {"right": 0.5, "near": 0.1, "wrong": 0.4}
    sizes: dict[tuple[str, str], int] = {}
    for record in records:
        group = (record["corpus"], record["kind"])
        sizes[group] = sizes.get(group, 0) + 1
    return np.array([shares[one["kind"]] / sizes[one["corpus"], one["kind"]] for one in records])


def bounded(record: dict[str, Any]) -> list[float]:
    """The clues as Fusion bounds them, found by asking Fusion itself."""
    clues = clues_of(record)
    return [Fusion(0.0, *unit).score(clues) for unit in np.eye(4).tolist()]


def logistic(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], w: npt.NDArray[np.float64], ridge: float
) -> npt.NDArray[np.float64]:
    """Weighted logistic regression by Newton's method; the offset comes last and is not shrunk."""
    x = np.c_[x, np.ones(len(x))]
    b = np.zeros(x.shape[1])
    shrink = ridge * np.r_[np.ones(x.shape[1] - 1), 0.0]
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -50, 50)))
        slope = x.T @ (w * (p - y)) + shrink * b
        curve = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(shrink + 1e-9)
        b -= np.linalg.solve(curve, slope)
    return b


def fit(options: argparse.Namespace) -> None:
    records = [one for one in load(options.files) if clues_of(one).credible]
    x = np.array([bounded(one) for one in records])
    y = np.array([float(one["kind"] == "right") for one in records])
    b = logistic(x, y, weights(records), options.ridge)
    speakers = len({one["speaker"] for one in records})
    print(f"# {len(records)} trials of {speakers} speakers; ridge {options.ridge}")
    deficit, token, word, agreed, offset = b
    print(f"Fusion({offset:.3f}, {deficit:.4f}, {token:.4f}, {word:.4f}, {agreed:.4f})")


def report(options: argparse.Namespace) -> None:
    """Error rates at each threshold, with 95 % intervals from resampling speakers."""
    records = load(options.files)
    fusion = Fusion()
    scores = np.array(
        [fusion.score(clues) if (clues := clues_of(one)).credible else -12.0 for one in records]
    )
    groups = sorted({(one["corpus"], one["kind"]) for one in records})
    for corpus, kind in groups:
        chosen = [at for at, one in enumerate(records) if (one["corpus"], one["kind"]) == (corpus, kind)]
        speakers = np.array([records[at]["speaker"] for at in chosen])
        for threshold in options.thresholds:
            accepted = scores[chosen] >= threshold
            wrong = ~accepted if kind == "right" else accepted
            low, high = interval(wrong, speakers)
            name = "refused " if kind == "right" else "accepted"
            print(
                f"{corpus:6} {kind:8} {name} at LLR {threshold:+.1f}: {100 * wrong.mean():6.2f} % "
                f"[{100 * low:.2f}, {100 * high:.2f}]  {int(wrong.sum())} of {len(chosen)}"
            )


def interval(wrong: npt.NDArray[np.bool_], speakers: npt.NDArray[np.str_]) -> tuple[float, float]:
    """95 % bootstrap over speakers; when nothing went wrong, the upper end is the rule of three."""
    if not wrong.any():
        return 0.0, min(1.0, 3.0 / len(wrong))
    dice = np.random.default_rng(17)
    if len(np.unique(speakers)) == 1:
        speakers = np.arange(len(wrong)).astype(str)  # clips nobody speaks in stand for themselves
    by_speaker = [wrong[speakers == name] for name in np.unique(speakers)]
    means = [
        np.concatenate([by_speaker[i] for i in dice.integers(len(by_speaker), size=len(by_speaker))]).mean()
        for _ in range(1000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("collect", collect), ("noise", noise)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--model", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--half", choices=("fit", "test"), default="test")
        command.add_argument("--near", type=int, default=1, help="a near miss for every Nth recording")
        command.add_argument("--wrong", type=int, default=1, help="a wrong phrase for every Nth recording")
        command.add_argument("--count", type=int, default=300, help="clips without the phrase")
    for name, work in (("fit", fit), ("report", report)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("files", type=Path, nargs="+")
        command.add_argument("--ridge", type=float, default=0.002)
        command.add_argument("--thresholds", type=float, nargs="+", default=[-2.0, 0.0, 2.0])
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
