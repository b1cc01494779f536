"""How loud the development speech is, and what raising a quiet microphone does.

    python -m bench.checks.level [--data DIR]

Each recording is made 12 dB quieter, rounded as a converter would, and raised again by 12 dB, the most that
`device/audio/card/level.py` raises unless told otherwise; the three LLRs of both are compared. `--data` is a
folder with manifest.tsv.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from bench.processors.decisions import ENROLMENT, READER, SAID, SPEECH, judge_on
from device.audio import QualityError, load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Samples
from device.evidence.judge import Evidence
from device.evidence.listener import judge_file
from device.model_store.bundle import Bundle
from device.model_store.pick import Pick
from device.models import self_test
from device.settings import Settings, models_dir

CHANGE_DB = 12.0


def wav(samples: Samples) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()


def low_and_raised(samples: Samples) -> Samples:
    factor = 10.0 ** (CHANGE_DB / 20.0)
    low = np.rint(samples / factor)
    raised: Samples = np.clip(np.rint(low * factor), -32_768, 32_767).astype(np.int16)
    return raised


def levels(data: Path, count: int) -> list[float]:
    """Level of the speech in `count` bona fide recordings of the development set, dBFS."""
    with (data / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row["path"] for row in csv.DictReader(file, delimiter="\t") if row["label"] == "bonafide"]
    found = []
    for path in random.Random(1).sample(rows, min(count, len(rows))):
        try:
            found.append(load_utterance(data / path, Settings().audio).quality.level_dbfs)
        except QualityError:
            continue
    return found


def differences() -> dict[str, float]:
    """Largest difference of each LLR between a recording and the same one, low and raised."""
    bundle = Bundle.open(models_dir())
    judge = judge_on(bundle, self_test.chosen(self_test.run(bundle, Pick())))
    settings = Settings().audio
    enrolled = [load_utterance(SPEECH / READER.format(number), settings) for number in ENROLMENT]
    template = judge.speaker.template([judge.speaker.embed(heard.wave()) for heard in enrolled])
    largest: dict[str, float] = {}
    for name, said in SAID.items():
        samples, rate_hz = soundfile.read(SPEECH / name, dtype="int16")
        if rate_hz != SAMPLE_RATE_HZ:
            raise SystemExit(f"{name} is not of {SAMPLE_RATE_HZ} Hz")
        plain, raised = (
            judge_file(partial(load_utterance, wav(version), settings), judge, said, template)
            for version in (samples, low_and_raised(samples))
        )
        if not isinstance(plain, Evidence) or not isinstance(raised, Evidence):
            raise SystemExit(f"{name}: {plain}, {raised}")
        for check in ("phrase_llr", "speaker_llr", "spoof_llr"):
            moved = abs(float(getattr(plain, check) or 0.0) - float(getattr(raised, check) or 0.0))
            largest[check] = round(max(largest.get(check, 0.0), moved), 3)
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="The development data; without it only the scores.")
    parser.add_argument("--count", type=int, default=300)
    asked = parser.parse_args()
    report: dict[str, object] = {
        "raised_db": CHANGE_DB,
        "recordings": len(SAID),
        "differences": differences(),
    }
    if asked.data is not None:
        found = levels(asked.data, asked.count)
        shares = (1, 5, 50, 95)
        report["speech_dbfs"] = {f"p{at}": round(float(np.percentile(found, at)), 1) for at in shares}
        report["speech_recordings"] = len(found)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
