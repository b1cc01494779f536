"""In an environment of its own: pyannote-metrics as referee, sherpa-onnx as peer. Imports nothing of ours.

    python bench/checks/diarization_worker.py FOLDER [SEGMENTATION.onnx EMBEDDING.onnx THRESHOLD]

FOLDER holds NAME.wav, NAME.ref.rttm and NAME.ours.rttm. Prints one JSON object: DER of ours by collar as the
referee counts it and, given models, the turns that sherpa-onnx finds, its time, and its DER.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import soundfile
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate


def annotation(turns: list[tuple[float, float, str]]) -> Annotation:
    found = Annotation()
    for number, (start, end, name) in enumerate(turns):
        found[Segment(start, end), number] = name
    return found


def read(path: Path) -> list[tuple[float, float, str]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def main() -> None:
    folder = Path(sys.argv[1])
    # Their collar is the whole of what is left out around a boundary, NIST's is each side of it.
    referees = {
        c: {who: DiarizationErrorRate(collar=2 * c) for who in ("ours", "sherpa")} for c in (0.0, 0.25)
    }
    peer = None
    if len(sys.argv) > 2:
        import sherpa_onnx

        peer = sherpa_onnx.OfflineSpeakerDiarization(
            sherpa_onnx.OfflineSpeakerDiarizationConfig(
                segmentation=sherpa_onnx.OfflineSpeakerSegmentationModelConfig(
                    pyannote=sherpa_onnx.OfflineSpeakerSegmentationPyannoteModelConfig(model=sys.argv[2]),
                    num_threads=1,
                ),
                embedding=sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=sys.argv[3], num_threads=1),
                clustering=sherpa_onnx.FastClusteringConfig(num_clusters=-1, threshold=float(sys.argv[4])),
                min_duration_on=0.3,
                min_duration_off=0.5,
            )
        )
    turns: dict[str, list[tuple[float, float, str]]] = {}
    cpu_s = sound_s = 0.0
    for path in sorted(folder.glob("*.wav")):
        reference = annotation(read(path.with_suffix(".ref.rttm")))
        samples, rate = soundfile.read(path, dtype="float32")
        whole = Timeline([Segment(0.0, len(samples) / rate)])
        sound_s += len(samples) / rate
        found = {"ours": read(path.with_suffix(".ours.rttm"))}
        if peer is not None:
            began = time.process_time()
            result = peer.process(samples).sort_by_start_time()
            cpu_s += time.process_time() - began
            found["sherpa"] = [(one.start, one.end, f"s{one.speaker}") for one in result]
            turns[path.stem] = found["sherpa"]
        for by in referees.values():
            for who, told in found.items():
                by[who](reference, annotation(told), uem=whole)
    print(
        json.dumps(
            {
                "der": {f"{c:g}": {w: abs(m) for w, m in by.items()} for c, by in referees.items()},
                "turns": turns,
                "real_time_factor": cpu_s / max(sound_s, 1e-9),
            }
        )
    )


if __name__ == "__main__":
    main()
