"""The self-test, and twelve attempts on recordings that packages carry, on this processor: scores as JSON.

    python -m bench.processors.decisions --models ~/.local/state/ostiary/models

`scripts/check-processors` runs it on several processors and compares.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from device.audio import load_utterance
from device.evidence.judge import Evidence, Judge
from device.evidence.listener import judge_file
from device.liveness.context import ContextChecks
from device.model_store.answers import CHECKS
from device.model_store.bundle import Bundle
from device.model_store.pick import Pick
from device.model_store.processor import processor_class
from device.model_store.sessions import Runtime
from device.models import self_test
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import Transcriber
from device.settings import Settings

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


def judge_on(bundle: Bundle, forms: dict[str, Runtime]) -> Judge:
    return Judge(
        Transcriber.open(bundle, threads=2, runtime=forms["words"]),
        SpeakerModel.open(bundle, 1, forms["speaker"]),
        SpoofDetector.open(bundle, 1, forms["spoof"]),
        ContextChecks.open(),
    )


def decided(judge: Judge) -> list[dict[str, float | None]]:
    """The three LLRs of each attempt: every recording with what was said, and with what was not."""
    settings = Settings().audio
    enrolment = [load_utterance(SPEECH / READER.format(number), settings) for number in ENROLMENT]
    template = judge.speaker.template([judge.speaker.embed(heard.wave()) for heard in enrolment])
    phrases, scores = list(SAID.values()), []
    for number, name in enumerate(SAID):
        for phrase in (phrases[number], phrases[number - 1]):
            heard = judge_file(partial(load_utterance, SPEECH / name, settings), judge, phrase, template)
            if not isinstance(heard, Evidence):
                raise SystemExit(f"{name}: {heard}")
            found = (heard.phrase_llr, heard.speaker_llr, heard.spoof_llr)
            scores.append(dict(zip(CHECKS, found, strict=True)))
            print(f"{name} {phrase!r}: {found}", file=sys.stderr, flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="A folder with a bundle.")
    bundle = Bundle.open(parser.parse_args().models)
    began = time.monotonic()
    findings = self_test.run(bundle, Pick())
    for one in findings:
        print(f"self-test: {one}", file=sys.stderr, flush=True)
    forms = self_test.chosen(findings)
    report = {
        "class": processor_class(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
        "reference": self_test.answers_of(bundle).reference,
        "self_test": [
            {"check": one.check, "form": one.form, "difference": one.largest_difference, "passed": one.passed}
            for one in findings
        ],
        "forms": forms,
        "scores": decided(judge_on(bundle, forms)),
        "seconds": round(time.monotonic() - began, 1),
        "files": {entry.role: entry.sha256 for entry in bundle.manifest.files},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
