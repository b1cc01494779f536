"""What a German answer costs beside an English one: processor time of the words check alone, and as a ratio.

    python -m bench.checks.german [--rounds 9]

Both are said by espeak-ng, cut to the same length, and asked for by five words. English is heard by the usual
model; German by the larger one, which is open. A second hearing of English costs what German does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from device.audio import load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words
from device.model_store import slots
from device.models.words.languages import transcriber
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, Transcriber
from device.models.words.whisper_onnx import OnnxWhisper
from device.settings import models_dir

VOICES = {Language.ENGLISH: "en-us", Language.GERMAN: "de"}
SECONDS = 4


def spoken(voice: str, words: tuple[str, ...]) -> Wave:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        said = ["espeak-ng", "-v", voice, "-s", "110", "-w", file.name, ", ".join(words)]
        subprocess.run(said, check=True, capture_output=True, timeout=60)
        return load_utterance(Path(file.name)).wave()[: SECONDS * SAMPLE_RATE_HZ]


def spent_s(words: Transcriber, wave: Wave, phrase: str) -> float:
    began_s = time.process_time()
    words.score(wave, phrase)
    return time.process_time() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    bundle = slots.active(models_dir())
    files = bundle.path(BASE_ENCODER_ROLE), bundle.path(BASE_ROLE)
    german = transcriber(OnnxWhisper(*files, threads=1), bundle.version(BASE_ROLE), Language.GERMAN)
    checks = {Language.ENGLISH: Transcriber.open(bundle, threads=1), Language.GERMAN: german}
    spent: dict[Language, list[float]] = {language: [] for language in checks}
    for number in range(rounds):
        for language, words in checks.items():  # in turn: what else runs slows both
            said = challenge_words(language)[number * 5 : number * 5 + 5]
            spent[language].append(spent_s(words, spoken(VOICES[language], said), " ".join(said)))
    for language, times in spent.items():
        print(f"{language}: median {statistics.median(times) * 1e3:.0f} ms, least {min(times) * 1e3:.0f} ms")
    ratio = statistics.median(spent[Language.GERMAN]) / statistics.median(spent[Language.ENGLISH])
    print(f"German takes {ratio:.1f} times what English takes (processor time, one thread, {rounds} answers)")


if __name__ == "__main__":
    main()
