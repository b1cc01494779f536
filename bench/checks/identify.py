"""Who is it, out of N, when nobody was claimed: how long the search takes, and how often it is wrong.

`python -m bench.checks.identify time` searches among 100 to 10,000 voiceprints and opens 1,000 from a vault.
`python -m bench.checks.identify rates --data DIR` enrols half of the speakers of DIR/manifest.tsv (three
recordings each) and lets everybody speak: the enrolled, who should be found, and the others, who should be
nobody. The threshold is the door's own, raised by ln N; nothing is fitted here. Both print one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from device.access.policy import Thresholds
from device.access.rules import default_rules
from device.access.rules.model import RiskClass
from device.access.voices import gallery
from device.audio import QualityError, load_utterance
from device.evidence.gallery import Gallery
from device.model_store import slots
from device.models.speaker import MIN_ENROLMENT, InconsistentEnrolmentError, SpeakerModel
from device.secure_store import StoreSettings, Template, open_store
from device.settings import models_dir
from quantize.evaluate.recordings.manifest import read_manifest

Vector = npt.NDArray[np.float32]
SEARCHES = 200


def units(count: int, seed: int) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, 192)).astype(np.float32)
    normed: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


def times(model: SpeakerModel) -> dict[str, object]:
    """Milliseconds of one search, embedding not included, and of opening a gallery."""
    found: dict[str, object] = {}
    for count in (100, 1_000, 10_000):
        voices = Gallery({str(n): row for n, row in enumerate(units(count, 1))})
        wall_ms, processor_ms = [], []  # others may use the machine
        for probe in units(SEARCHES, 2):
            began, began_processor = time.perf_counter(), time.process_time()
            voices.identify(probe, model.llr)
            wall_ms.append((time.perf_counter() - began) * 1e3)
            processor_ms.append((time.process_time() - began_processor) * 1e3)
        found[f"search among {count}, ms (p50, p95)"] = {
            "wall": [round(float(x), 3) for x in np.percentile(wall_ms, [50, 95])],
            "processor": [round(float(x), 3) for x in np.percentile(processor_ms, [50, 95])],
        }
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as folder:
        settings = StoreSettings(profile="laptop", keystore="software")
        with open_store(Path(folder) / "unit", settings, warn=lambda _: None) as store:
            for number, row in enumerate(track(units(1_000, 3), "enrol", disable=not sys.stderr.isatty())):
                store.vault.enrol(f"badge {number}", Template(model.version, row, 3))
            began, began_processor = time.perf_counter(), time.process_time()
            with gallery(store.vault, default_rules("door-1"), "door-1", model.version) as voices:
                found[f"open {len(voices)} voiceprints, once a start, s (wall, processor)"] = [
                    round(time.perf_counter() - began, 2),
                    round(time.process_time() - began_processor, 2),
                ]
    return found


def rates(model: SpeakerModel, data: Path, most: int) -> dict[str, object]:
    """Open-set identification on real voices. Half of the speakers are enrolled, the others are strangers."""
    heard: dict[str, list[Vector]] = {}
    recordings = [
        r for r in read_manifest(data / "manifest.tsv", data) if r.label == "bonafide" and r.speaker
    ]
    for recording in track(recordings, "listen", disable=not sys.stderr.isatty()):
        vectors = heard.setdefault(recording.speaker, [])
        if recording.folder in ("an4", "so762") and len(vectors) < most:
            try:
                vectors.append(model.embed(load_utterance(data / recording.path).wave()))
            except QualityError:
                continue
    speakers = sorted(name for name, vectors in heard.items() if len(vectors) > MIN_ENROLMENT)
    order = np.random.default_rng(1).permutation(len(speakers))
    enrolled = {speakers[n] for n in order[: len(speakers) // 2]}
    templates, refused_enrolments = {}, 0
    for name in sorted(enrolled):
        try:
            templates[name] = model.template(heard[name][:MIN_ENROLMENT])
        except InconsistentEnrolmentError:  # a real unit would ask to record again
            refused_enrolments += 1
    speakers = [name for name in speakers if name in templates or name not in enrolled]
    voices = Gallery(templates)
    needed_llr, margin_llr = (
        Thresholds().voice_llr + math.log(len(voices)),
        RiskClass("x").identify_margin_llr,
    )
    refused, mistaken, accepted = [], [], []
    for name in speakers:
        missed = wrong = strange = 0
        probes = heard[name][MIN_ENROLMENT:]
        for probe in probes:
            found = voices.identify(probe, model.llr)
            if found is None:
                continue
            opens = found.llr >= needed_llr and found.llr - found.runner_up_llr >= margin_llr
            missed += not (opens and found.uid == name)
            wrong += opens and found.uid != name
            strange += opens
        if name in enrolled:
            refused.append((missed, len(probes)))
            mistaken.append((wrong, len(probes)))
        else:
            accepted.append((strange, len(probes)))
    return {
        "enrolled": len(voices),
        "enrolments refused as inconsistent": refused_enrolments,
        "strangers": len(speakers) - len(voices),
        "threshold, LLR": round(needed_llr, 2),
        "margin, LLR": margin_llr,
        "enrolled people refused or not found, %": share(refused),
        "enrolled people taken for another, %": share(mistaken),
        "strangers let in, %": share(accepted),
    }


def share(counts: list[tuple[int, int]]) -> list[object]:
    """Percent, trials, and the 95 % interval over speakers (a bootstrap of 2,000)."""
    table = np.array(counts)
    dice = np.random.default_rng(1)
    draws = table[dice.integers(0, len(table), (2_000, len(table)))].sum(axis=1)
    low, high = np.percentile(100 * draws[:, 0] / draws[:, 1], [2.5, 97.5])
    rate = 100 * table[:, 0].sum() / table[:, 1].sum()
    return [round(float(rate), 2), int(table[:, 1].sum()), [round(float(low), 2), round(float(high), 2)]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("time", "rates"))
    parser.add_argument("--data", type=Path, help="of `rates`: a folder with manifest.tsv")
    parser.add_argument("--most", type=int, default=8, help="recordings of one speaker")
    options = parser.parse_args()
    if options.what == "rates" and options.data is None:
        parser.error("rates needs --data")
    model = SpeakerModel.open(slots.active(models_dir(), print))
    found = times(model) if options.what == "time" else rates(model, options.data, options.most)
    machine = {"machine": platform.machine(), "date": datetime.now(UTC).date().isoformat()}
    command = f"python -m bench.checks.identify {options.what}"
    print(json.dumps({**machine, "command": command, **found}, indent=1))


if __name__ == "__main__":
    main()
