"""The weights of the words check's clues, fitted on half of the speakers; the other half is for measuring.

    P="python -m research.fits.phrase"
    $P split --data DIR --half test --out test.tsv     # a manifest of that half, for `ostiary evaluate`
    $P collect --data DIR --half fit --out fit.jsonl
    $P fit fit.jsonl                                   # the weights of Fusion
    ostiary evaluate --manifest test.tsv --root DIR --out DIR --only phrase --pairings 230 --clips 10000

Speakers are split by the parity of SHA-256(speaker): even ones fit, odd ones test. Trials: each recording
with its own text (right), with one word replaced (near), with another text of its corpus and the three that
are nearest in length (wrong).
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

from device.audio.utterance import SAMPLE_RATE_HZ
from device.evidence.phrase import another, competitors, normalise
from device.model_store import slots
from device.models.words.transcriber import Clues, Fusion, Transcriber
from device.settings import WordsEngine, models_dir

CORPORA = ("an4", "so762")
NEAR, WRONG = 4, 4


def rows(data: Path) -> list[dict[str, str]]:
    with (data / "manifest.tsv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def folder(row: dict[str, str]) -> str:
    return row["path"].split("/")[0]


def in_half(row: dict[str, str], half: str) -> bool:
    parity = {"fit": 0, "test": 1}[half]
    return int(hashlib.sha256(row["speaker"].encode()).hexdigest(), 16) % 2 == parity


def spoken(options: argparse.Namespace) -> list[dict[str, str]]:
    """Recordings with a text of one half, in an order that says nothing; so many as were asked for."""
    found = [r for r in rows(options.data) if folder(r) in CORPORA and r["text"].strip()]
    found = [row for row in found if in_half(row, options.half)]
    return sorted(found, key=lambda r: hashlib.sha256(r["path"].encode()).digest())[: options.limit]


def split(options: argparse.Namespace) -> None:
    """Recordings with texts of one half, and what clips without a phrase are made of."""
    chosen = {row["path"] for row in spoken(options)}
    kept = [
        row
        for row in rows(options.data)
        if row["label"] == "noise" or folder(row) == "libri" or row["path"] in chosen
    ]
    with options.out.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, kept[0].keys(), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(kept)


def trials(row: dict[str, str], texts: list[str]) -> Iterator[tuple[str, str]]:
    """Kind and expected phrase, of one recording: the same ones each time."""
    said, dice = row["text"], random.Random(row["path"])
    yield "right", said
    yield "near", competitors(said, 6)[-2]
    for _ in range(NEAR - 1):
        yield "near", near_miss(said.lower().split(), dice)

    def order(text: str) -> tuple[int, bytes]:
        pick = hashlib.sha256((row["path"] + text).encode()).digest()
        return abs(len(text.split()) - len(said.split())), pick

    others = [text for text in texts if normalise(text) != normalise(said)]
    yield "wrong", dice.choice(others)
    for wrong in sorted(others, key=order)[: WRONG - 1]:
        yield "wrong", wrong


def near_miss(words: list[str], dice: random.Random) -> str:
    """`words` with one of them replaced by another of its class that does not mean the same."""
    while True:
        at = dice.randrange(len(words))
        changed = " ".join([*words[:at], another(words[at], dice), *words[at + 1 :]])
        if normalise(changed) != normalise(" ".join(words)):
            return changed


def collect(options: argparse.Namespace) -> None:
    bundle = slots.active(models_dir())
    transcriber = Transcriber.open(bundle, threads=options.threads, engine=options.words)
    chosen = spoken(options)
    texts = {name: sorted({r["text"] for r in chosen if folder(r) == name}) for name in CORPORA}
    with options.out.open("w", encoding="utf-8") as out:
        for row in chosen:
            wave, rate_hz = soundfile.read(options.data / row["path"], dtype="float32")
            if rate_hz != SAMPLE_RATE_HZ or wave.ndim != 1:
                raise SystemExit(f"{row['path']} is not 16 kHz mono")
            asked = list(trials(row, texts[folder(row)]))
            for (kind, phrase), (clues, transcript) in zip(
                asked, transcriber.clues_of_many(wave, [text for _, text in asked]), strict=True
            ):
                record = {
                    "kind": kind, "corpus": folder(row), "speaker": row["speaker"], "path": row["path"],
                    "phrase": phrase, "transcript": transcript, **asdict(clues),
                }  # fmt: skip
                out.write(json.dumps(record) + "\n")
            out.flush()


def clues_of(record: dict[str, Any]) -> Clues:
    return Clues(**{name: record[name] for name in Clues.__dataclass_fields__})


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
    return [Fusion(0.0, *unit).score(clues) for unit in np.eye(5).tolist()]


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
    records = [json.loads(line) for path in options.files for line in path.read_text("utf-8").splitlines()]
    records = [one for one in records if clues_of(one).credible]
    x = np.array([bounded(one) for one in records])
    y = np.array([float(one["kind"] == "right") for one in records])
    b = logistic(x, y, weights(records), options.ridge)
    speakers = len({one["speaker"] for one in records})
    print(f"# {len(records)} trials of {speakers} speakers; ridge {options.ridge}")
    print(f"Fusion({', '.join(f'{value:.4f}' for value in (b[-1], *b[:-1]))})")
    in_use = np.array([[Fusion().score(clues_of(one))] for one in records])
    scale, offset = logistic(in_use, y, weights(records), 0.0)
    print(f"The weights in use, calibrated for these trials: scale = {scale:.4f}, offset = {offset:.4f}")
    scores = np.c_[x, np.ones(len(x))] @ b
    for corpus in CORPORA:
        for kind in ("right", "near", "wrong"):
            mine = np.array([(one["corpus"], one["kind"]) == (corpus, kind) for one in records])
            accepted = scores[mine] >= options.threshold
            print(f"{corpus:6} {kind:6} accepted {int(accepted.sum()):5} of {int(mine.sum()):5}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("split", split), ("collect", collect)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--half", choices=("fit", "test"), required=True)
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--limit", type=int, help="so many recordings, drawn by hash; all by default")
        command.add_argument("--words", type=WordsEngine, choices=[*WordsEngine], default=WordsEngine.ONNX)
    command = commands.add_parser("fit")
    command.set_defaults(work=fit)
    command.add_argument("files", type=Path, nargs="+")
    command.add_argument("--ridge", type=float, default=0.001)
    command.add_argument("--threshold", type=float, default=2.0)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
