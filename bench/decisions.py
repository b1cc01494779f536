"""Twelve attempts on recordings that packages carry, judged on this processor: their scores as JSON.

    .venv/bin/python bench/decisions.py --models ~/.local/state/ostiary/models

`scripts/check-processors` runs it on several processors and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

from device.audio import load_utterance
from device.evidence.judge import Evidence
from device.evidence.listener import judge_file
from device.model_store.processor import processor_class
from device.settings import Settings
from device.unit.assembly import open_judge
from device.unit.enrolment import embeddings_of

SPEECH = Path("/usr/share/pocketsphinx/test/data")
READER = "librivox/sense_and_sensibility_01_austen_64kb-{}.wav"
ENROLMENT = ("0870", "0890", "0920")
SAID = {
    READER.format("0880"): "he was not an ill disposed young man",
    READER.format("0930"): "he might even have been made amiable himself",
    "cards/001.wav": "ten of clubs",
    "cards/002.wav": "four queen of clubs",
    "cards/003.wav": "seven of clubs",
    "cards/005.wav": "eight of spades four of clubs seven of hearts",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="A folder with a bundle.")
    given = parser.parse_args()
    settings = Settings()
    scores = []
    with open_judge(given.models, settings) as judge:
        recordings = [SPEECH / READER.format(number) for number in ENROLMENT]
        template = judge.speaker.template(embeddings_of(judge, settings, recordings)[0])
        phrases = list(SAID.values())
        began = time.monotonic()
        for number, name in enumerate(SAID):
            for phrase in (phrases[number], phrases[number - 1]):  # what was said, and what was not
                heard = judge_file(
                    lambda name=name: load_utterance(SPEECH / name, settings.audio), judge, phrase, template
                )
                if not isinstance(heard, Evidence):
                    raise SystemExit(f"{name}: {heard}")
                found = (heard.phrase_llr, heard.speaker_llr, heard.spoof_llr)
                scores.append(dict(zip(("words", "voice", "live"), found, strict=True)))
        took_s = time.monotonic() - began
    bundle = json.loads((given.models / "manifest.json").read_bytes())
    print(
        json.dumps(
            {
                "class": processor_class(),
                "python": platform.python_version(),
                "numpy": version("numpy"),
                "onnxruntime": version("onnxruntime"),
                "seconds": round(took_s, 1),
                "scores": scores,
                "files": {
                    entry["role"]: hashlib.sha256((given.models / entry["name"]).read_bytes()).hexdigest()
                    for entry in bundle["files"]
                },
            }
        )
    )


if __name__ == "__main__":
    main()
