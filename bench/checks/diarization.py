"""Ours beside sherpa-onnx on the same conversations with the same two networks, and a referee for our DER.

    python3 -m venv DIR && DIR/bin/pip install --require-hashes -r bench/checks/referee.lock
    python -m bench.checks.diarization --root DATA --peer-python DIR/bin/python [--mixtures 24]
        [--real FOLDER] [--threshold 0.5]...

Every threshold is a run of its own through the peer, which hears each second ten times over (windows of ten
seconds, one second apart), and is told when it is done.

The peer is given the float graphs that ours were made from, and its own default threshold and the best of
several, chosen with a view of the result: ours has no such help. The referee needs NumPy 2, hence an
environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import soundfile

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import Samples
from device.conversation.diarization import diarize
from device.conversation.hearing import windows
from device.conversation.opening import open_models
from device.conversation.turns import Turn, to_rttm
from device.models.self_test import MEMORY_NAME
from device.settings import models_dir
from quantize import reference
from quantize.evaluate.conversation.der import Errors, errors
from quantize.evaluate.conversation.measure import real_recordings
from quantize.evaluate.conversation.mixtures import Studio, people_of
from quantize.evaluate.conversation.part import SEED
from quantize.evaluate.recordings.manifest import NOISE, ROOM, read_manifest

COLLARS_S = (0.0, 0.25)
WORKER = Path(__file__).with_name("diarization_worker.py")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""sherpa-onnx's default and others, in cosine distance."""
_SEGMENTATION = {
    "num_speakers": 3, "powerset_max_classes": 2, "num_classes": 7, "sample_rate": 16000,
    "window_size": 160000,
    "receptive_field_size": 991, "receptive_field_shift": 270, "model_type": "pyannote-segmentation-3.0",
    "version": 1, "maintainer": "ostiary bench",
}  # fmt: skip
_EMBEDDING = {
    "framework": "3d-speaker", "language": "Chinese-English", "output_dim": 192, "sample_rate": 16000,
    "normalize_samples": 1, "feature_normalize_type": "global-mean", "version": 1, "comment": "CAM++",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--mixtures", type=int, default=24, help="the second dozen of each two is in rooms")
    parser.add_argument("--threshold", type=float, action="append", help="of the peer; may be repeated")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--out", type=Path, help="Write the figures here as JSON.")
    asked = parser.parse_args()
    models = open_models(models_dir(), models_dir() / MEMORY_NAME)
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as work:
        folder = Path(work)
        truth: dict[str, tuple[Sequence[Turn], float]] = {}
        total = {c: Errors() for c in COLLARS_S}
        cpu_s = 0.0
        for name, samples, said in _recordings(asked.root, asked.mixtures, asked.real):
            seconds = len(samples) / 16_000
            began = time.process_time()
            found = diarize([*windows(samples, models.segmentation, models.speaker)], seconds)
            cpu_s += time.process_time() - began
            for collar_s in COLLARS_S:
                total[collar_s] += errors(said, found.turns, seconds, collar_s)
            truth[name] = (said, seconds)
            soundfile.write(folder / f"{name}.wav", samples, 16_000, subtype="PCM_16")
            (folder / f"{name}.ref.rttm").write_text(to_rttm(said, name))
            (folder / f"{name}.ours.rttm").write_text(to_rttm(found.turns, name))
        models = _models(folder)
        told: dict[str, object] = {
            "recordings": len(truth),
            "ours": {f"{c:g}": total[c].der for c in COLLARS_S},
            "ours_real_time_factor": cpu_s / sum(seconds for _, seconds in truth.values()),
        }
        for threshold in asked.threshold or THRESHOLDS:
            answer = json.loads(
                subprocess.run(
                    [asked.peer_python, WORKER, folder, *models, str(threshold)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            theirs = {c: Errors() for c in COLLARS_S}
            for name, turns in answer["turns"].items():
                said, seconds = truth[name]
                heard = [Turn(begin, end, who) for begin, end, who in turns if end > begin >= 0]
                for collar_s in COLLARS_S:
                    theirs[collar_s] += errors(said, heard, seconds, collar_s)
            label = f"sherpa-onnx, threshold {threshold:g}"
            told[label] = {
                **{f"{c:g}": theirs[c].der for c in COLLARS_S},
                "referee": {c: by["sherpa"] for c, by in answer["der"].items()},
                "real_time_factor": answer["real_time_factor"],
            }
            told["referee on ours"] = {c: by["ours"] for c, by in answer["der"].items()}
            print(json.dumps({label: told[label]}), file=sys.stderr, flush=True)
    text = json.dumps(told, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


def _recordings(root: Path, count: int, real: Path | None) -> Iterator[tuple[str, Samples, Sequence[Turn]]]:
    manifest = root / "manifest.tsv"
    studio = Studio(root, read_manifest(manifest, root, (NOISE,)), read_manifest(manifest, root, (ROOM,)))
    people = people_of(read_manifest(manifest, root), tuning=False)
    for mixture in studio.mixtures(people, count, SEED):
        yield mixture.name, mixture.samples, mixture.reference
    if real is not None:
        for name, (samples, said) in real_recordings(
            real, lambda path: read_recording(path, FileLimits())
        ).items():
            yield name, samples, said


def _models(folder: Path) -> tuple[Path, Path]:
    """The float graphs with what sherpa-onnx wants to read about them."""
    built = reference.build(models_dir().parent / "reference")
    found = []
    for source, facts in ((built.pyannote, _SEGMENTATION), (built.campplus, _EMBEDDING)):
        model = onnx.load(source)
        for key, value in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, str(value)
        found.append(folder / f"{source.stem}.peer.onnx")
        onnx.save(model, found[-1])
    return found[0], found[1]


if __name__ == "__main__":
    main()
