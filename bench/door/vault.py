"""The vault at work: a thousand people on a real TPM, and what protecting their templates costs and gives.

`python -m bench.door.vault people` starts a swtpm, enrols, unlocks and forgets; `--software` uses no TPM.
`python -m bench.door.vault templates --data DIR` measures accuracy and unlinkability on real embeddings of
the speakers in DIR/manifest.tsv. Both print one JSON object with the machine, the date and the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from rich.progress import track

from device.model_store import slots
from device.models.speaker import SpeakerModel
from device.secure_store import StoreSettings, Template, open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.transform import Rotation
from device.settings import models_dir
from quantize.evaluate.figures.metrics import Ranked, eer
from quantize.evaluate.recordings.manifest import read_manifest
from tests.device.secure_store.people import with_door

Matrix = npt.NDArray[np.float64]
ENROLMENT_FILES = 3
LINKABILITY_BINS = 100


@contextlib.contextmanager
def settings_for(software: bool, folder: Path) -> Iterator[StoreSettings]:
    if software:
        yield StoreSettings(profile="laptop", keystore="software")
        return
    tpm = SwTpm(folder / "swtpm").start()
    try:
        yield tpm.settings()
    finally:
        tpm.power_cut()


def people(options: argparse.Namespace) -> dict[str, object]:
    """Milliseconds per operation, wall clock and, because others may use the machine, processor time."""
    count, dice = options.people, np.random.default_rng(1)
    with (
        tempfile.TemporaryDirectory(prefix="ostiary-bench-") as name,
        settings_for(options.software, Path(name)) as settings,
    ):
        state = Path(name) / "unit"
        quiet = replace(settings)
        result: dict[str, object] = {}
        with open_store(state, quiet, warn=lambda _: None) as store:
            vault, prints = store.vault, [with_door(i) for i in range(count)]
            result["enrol"] = spread(
                [timed(vault.enrol, f"badge {i}", prints[i]) for i in bar(count, "enrol")]
            )
            order = dice.permutation(count)
            result["unlock"] = spread([timed(vault.template, f"badge {i}") for i in bar(order, "unlock")])
            right = all(
                float(vault.template(f"badge {i}").vector @ prints[i].vector) > 0.999999 for i in order[:50]
            )
        result["boot to ready, in process"] = spread([boot(state, quiet) for _ in range(5)])
        result["boot to ready, new process, s"] = [round(cold_boot(state, quiet), 2) for _ in range(3)]
        with open_store(state, quiet, warn=lambda _: None) as store:
            one_by_one = range(0, count, max(1, count // options.forget))
            forgotten = [store.vault.record_id(f"badge {i}") for i in one_by_one]
            result["forget one, new epoch key each"] = spread(
                [timed(store.vault.forget, f"badge {i}") for i in bar(list(one_by_one), "forget")]
            )
            rest = [store.vault.record_id(uid) for uid in store.vault.uids()]
            wall, _ = timed(store.vault.forget_records, rest, "bench")
            result[f"forget the other {len(rest)} at once, ms"] = round(wall, 1)
            left = len(store.vault.uids())
        result["right voiceprint back"], result["left at the end"] = right, left
        result["people"], result["forgotten one by one"] = count, len(forgotten)
        result["keystore"] = settings.keystore
        return result


def boot(state: Path, settings: StoreSettings) -> tuple[float, float]:
    def ready() -> None:
        with open_store(state, settings, warn=lambda _: None) as store:
            store.vault.template("badge 0")

    return timed(ready)


def cold_boot(state: Path, settings: StoreSettings) -> float:
    """Seconds from starting Python to the first voiceprint unlocked."""
    code = (
        "import sys; from pathlib import Path; from device.secure_store import *\n"
        "s = StoreSettings(profile='laptop', keystore=sys.argv[2], tcti=sys.argv[3])\n"
        "store = open_store(Path(sys.argv[1]), s, warn=lambda _: None); store.vault.template('badge 0')"
    )
    started = time.perf_counter()
    argv = [sys.executable, "-c", code, str(state), settings.keystore, settings.tcti]
    subprocess.run(argv, check=True)
    return time.perf_counter() - started


def templates(options: argparse.Namespace) -> dict[str, object]:
    """Equal error rates plain, protected under one key, through the vault, and across keys."""
    speakers = kept_embeddings(options)
    enrolled = [unit(np.mean(vectors[:ENROLMENT_FILES], axis=0)) for vectors in speakers]
    probes = [np.array(vectors[ENROLMENT_FILES:]) for vectors in speakers]
    plain = [[probe @ e for probe in probes] for e in enrolled]
    protected, stored = [], []
    for e in track(enrolled, "one key each", disable=not sys.stderr.isatty()):
        with SecretBytes.random(32) as key, Rotation(key) as rotation:
            hidden = rotation.protect(e.astype(np.float32))
            axes = np.array([rotation.protect(axis) for axis in np.eye(len(e), dtype=np.float32)])
            protected.append([ps @ axes @ hidden for ps in probes])
            stored.append([ps @ rotation.recover(hidden) for ps in probes])
    mated, non_mated = across_keys(enrolled, [unit(p.mean(axis=0)) for p in probes], options.draws)
    rates = {name: trial_eer(scores) for name, scores in (("plain", plain), ("protected", protected))}
    back = trial_eer(stored)
    change = np.concatenate(
        [a - b for p, q in zip(plain, protected, strict=True) for a, b in zip(p, q, strict=True)]
    )
    loss = max(abs(rates["protected"] - rates["plain"]), abs(back - rates["plain"]))
    return {
        "speakers": len(speakers),
        "target trials": sum(len(p) for p in probes),
        "impostor trials": sum(len(p) for p in probes) * (len(speakers) - 1),
        "EER plain, %": percent(rates["plain"]),
        "EER protected domain, %": percent(rates["protected"]),
        "EER through the vault, %": percent(back),
        "accuracy loss, points": round(100 * loss, 4),
        "largest change of a score": float(f"{np.abs(change).max():.1e}"),
        "EER across keys, %": percent(eer(Ranked(mated, non_mated).curve())),
        "EER across keys, 95 % interval": [percent(x) for x in interval(mated, non_mated)],
        "D_sys across keys": round(d_sys(mated, non_mated), 4),
        "D_sys of an ideal system at this size": round(d_sys_floor(mated, non_mated), 4),
        "D_sys without protection": round(d_sys(*plain_links(enrolled, probes)), 4),
        "mated pairs across keys": len(mated),
        "non-mated pairs across keys": len(non_mated),
    }


def kept_embeddings(options: argparse.Namespace) -> list[list[Matrix]]:
    """From the file --embeddings where it is there; otherwise made, and kept there when it is named."""
    if options.embeddings and options.embeddings.exists():
        with np.load(options.embeddings) as kept:
            return [list(kept[name]) for name in kept.files]
    made = embeddings(options.data, options.models or models_dir(), options.speakers)
    if options.embeddings:
        np.savez(options.embeddings, *(np.array(vectors) for vectors in made))
    return made


def embeddings(data: Path, models: Path, limit: int | None) -> list[list[Matrix]]:
    """Speakers with five or more bona fide files, files in path order: lists of (192,) unit vectors."""
    model = SpeakerModel.open(slots.active(models))
    by_speaker: dict[str, list[Path]] = {}
    for recording in read_manifest(data / "manifest.tsv", data):
        if recording.label == "bonafide" and recording.folder in ("an4", "so762"):
            by_speaker.setdefault(recording.speaker, []).append(data / recording.path)
    chosen = [files for files in by_speaker.values() if len(files) > ENROLMENT_FILES + 1][:limit]
    found = []
    for files in track(chosen, "embed", disable=not sys.stderr.isatty()):
        waves = (soundfile.read(path, dtype="float32")[0] for path in files)
        found.append([model.embed(wave) for wave in waves])
    return found


def across_keys(enrolled: list[Matrix], others: list[Matrix], draws: int) -> tuple[Matrix, Matrix]:
    """Cosines of templates under two keys: of one person, and of two. `draws` fresh key pairs a person."""
    mated, non_mated = [], []
    for _ in track(range(draws), "across keys", disable=not sys.stderr.isatty()):
        ours, theirs = [], []
        for e, o in zip(enrolled, others, strict=True):
            for vector, side in ((e, ours), (o, theirs)):
                with SecretBytes.random(32) as key, Rotation(key) as rotation:
                    side.append(rotation.protect(vector.astype(np.float32)))
        scores = np.array(ours) @ np.array(theirs).T
        mated.append(np.diag(scores))
        non_mated.append(scores[~np.eye(len(scores), dtype=bool)])
    return np.concatenate(mated).astype(float), np.concatenate(non_mated).astype(float)


def d_sys(mated: Matrix, non_mated: Matrix) -> float:
    """Global linkability, 0 to 1 (Gomez-Barrero et al., IEEE TIFS 13(6), 2018, eq. 10-12, omega = 1)."""
    edges = np.linspace(-1, 1, LINKABILITY_BINS + 1)
    edges = np.quantile(non_mated, np.linspace(0, 1, 21)) if mated.max() < 0.6 else edges
    edges[0], edges[-1] = -1.0 - 1e-6, 1.0 + 1e-6
    p = np.histogram(mated, edges)[0] / len(mated)
    q = np.histogram(non_mated, edges)[0] / len(non_mated)
    # 2 LR / (1 + LR) - 1 with LR = p / q, where LR > 1
    local = np.divide(p - q, p + q, out=np.zeros(len(p)), where=p > q)
    return float((p * local).sum())


def d_sys_floor(mated: Matrix, non_mated: Matrix) -> float:
    """What chance alone makes of it: both sides drawn from the non-mated scores."""
    dice = np.random.default_rng(3)
    return float(np.mean([d_sys(dice.choice(non_mated, len(mated)), non_mated) for _ in range(20)]))


def plain_links(enrolled: list[Matrix], probes: list[Matrix]) -> tuple[Matrix, Matrix]:
    scores = np.array(enrolled) @ np.array([unit(p.mean(axis=0)) for p in probes]).T
    return np.diag(scores).astype(float), scores[~np.eye(len(scores), dtype=bool)].astype(float)


def interval(mated: Matrix, non_mated: Matrix) -> tuple[float, float]:
    """Percentile bootstrap over pairs."""
    dice = np.random.default_rng(2)
    fewer = dice.choice(non_mated, min(len(non_mated), 20_000), replace=False)
    rates = [
        eer(Ranked(dice.choice(mated, len(mated)), dice.choice(fewer, len(fewer))).curve())
        for _ in range(200)
    ]
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def trial_eer(scores: list[list[Matrix]]) -> float:
    """`scores[i][j]`: the probes of speaker j against the template of speaker i."""
    targets = np.concatenate([scores[i][i] for i in range(len(scores))])
    others = [scores[i][j] for i in range(len(scores)) for j in range(len(scores)) if i != j]
    return eer(Ranked(targets, np.concatenate(others)).curve())


def unit(vector: Matrix) -> Matrix:
    return vector / np.linalg.norm(vector)


def percent(rate: float) -> float:
    return round(100 * rate, 3)


def timed(work: Callable[..., object], *arguments: object) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work(*arguments)
    taken = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
    if isinstance(made, Template):
        made.wipe()
    return taken


def spread(samples: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = np.array(samples).T
    figures = {"ms p50": (wall, 50), "ms p95": (wall, 95), "cpu ms p50": (cpu, 50), "cpu ms p95": (cpu, 95)}
    return {name: round(float(np.percentile(values, q)), 2) for name, (values, q) in figures.items()}


def bar(steps: int | list[int] | npt.NDArray[np.int64], what: str) -> Iterator[int]:
    sequence = range(steps) if isinstance(steps, int) else steps
    return iter(track(sequence, what, disable=not sys.stderr.isatty()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    crowd = kinds.add_parser("people")
    crowd.add_argument("--people", type=int, default=1000)
    crowd.add_argument("--forget", type=int, default=50, help="how many are forgotten one by one")
    crowd.add_argument("--software", action="store_true", help="no TPM: the store's own cost")
    voices = kinds.add_parser("templates")
    voices.add_argument("--data", type=Path, required=True)
    voices.add_argument("--models", type=Path)
    voices.add_argument("--embeddings", type=Path, help="an .npz to keep the embeddings in; never commit it")
    voices.add_argument("--speakers", type=int, help="no more than so many")
    voices.add_argument("--draws", type=int, default=30, help="key pairs for every person")
    options = parser.parse_args()
    result = people(options) if options.kind == "people" else templates(options)
    machine = {
        "command": " ".join(["python -m bench.door.vault", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load average at the end": round(os.getloadavg()[0], 1),
    }
    print(json.dumps({**machine, **result}, indent=1))


if __name__ == "__main__":
    main()
