"""Whether a second hearing of the same sound lets more right phrases in: by a larger model or the same one.

    P="python -m research.fits.second_hearing"
    $P collect --manifest M.tsv --root DIR --models DIR --half fit --keep F.jsonl
    $P fit F.jsonl [--judge T.jsonl]

People with an even SHA-256 are fitted on, the others judged. Phrases have three words or more. Each recording
is heard as recorded and in one place of three (a room, beside voices, ward sounds; drawn by its path) through
the door's endpointer, and asked for its own text, its text with one word replaced, and another of its corpus.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from device.audio import QualityError, load_utterance
from device.audio.utterance import Utterance
from device.errors import DeviceError
from device.evidence.phrase import another, normalise
from device.model_store import slots
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine
from quantize.evaluate.calibrate import fits
from quantize.evaluate.door.whole import surroundings, ward_sounds
from quantize.evaluate.manifest import NOISE, Recording, read_manifest
from research.fits.conditions import NOISES, Sounds, rendered

CORPORA = ("an4", "so762", "so762_child")
PLACES = ("room", "babble", "ward")
LEAST_WORDS, MOST = 3, 2
NEAR = 3
ASKED_BELOW_LLR, THRESHOLD_LLR = 2.0, 2.0

Wave = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Row = dict[str, Any]


def denoised(wave: Wave) -> Wave:
    """Each of 257 bands less twice its quietest tenth, at least a tenth of it: plain spectral subtraction."""
    size, hop = 512, 128
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(wave, size)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window, axis=1)
    level = np.abs(spectra)
    floor = np.percentile(level, 10, axis=0)
    kept = np.maximum(0.1, 1.0 - 2.0 * floor / np.maximum(level, 1e-9))
    out, weight = np.zeros(len(padded)), np.full(len(padded), 1e-6)
    for at, block in enumerate(np.fft.irfft(spectra * kept, axis=1) * window):
        out[at * hop : at * hop + size] += block
        weight[at * hop : at * hop + size] += window**2
    return np.asarray((out / weight)[size : size + len(wave)], np.float32)


HEARINGS: Mapping[str, tuple[WordsEngine, Callable[[Wave], Wave]]] = {
    "tiny": (WordsEngine.ONNX, lambda wave: wave),
    "base": (WordsEngine.WHISPER_BASE, lambda wave: wave),
    "slower": (
        WordsEngine.ONNX,
        lambda wave: np.asarray(soxr.resample(wave, 16_000, 17_800), np.float32),
    ),
    "denoised": (WordsEngine.ONNX, denoised),
    "more silence": (WordsEngine.ONNX, lambda wave: np.pad(wave, (4_800, 40_000))),
}


def asked(recording: Recording, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Kind and phrase: the same ones each time."""
    said, dice = recording.text, random.Random(recording.path)
    yield "right", said
    words = said.lower().split()
    for _ in range(NEAR):
        while True:
            at = dice.randrange(len(words))
            changed = " ".join([*words[:at], another(words[at], dice), *words[at + 1 :]])
            if normalise(changed) != normalise(said):
                break
        yield "near", changed
    others = [text for text in texts if normalise(text) != normalise(said)]
    yield "wrong", min(others, key=lambda text: (abs(len(text.split()) - len(words)), dice.random()))


def at_the_door(recording: Recording, place: str, sounds: Sounds) -> Utterance | None:
    """Through the door's endpointer; None where it would not be judged."""
    file = io.BytesIO()
    wave = np.clip(rendered(recording, place, sounds), -1.0, 32767 / 32768)
    soundfile.write(file, wave, 16_000, format="WAV", subtype="PCM_16")
    try:
        return load_utterance(file.getvalue())
    except (QualityError, DeviceError):
        return None


def heard(words: Transcriber, wave: Wave, phrases: Sequence[str]) -> list[Row]:
    """What one hearing brings for each phrase: its LLR as at the door, its clues, what was heard."""
    return [
        {
            "llr": max(words.llr(clues), words._among(wave, transcript, phrase)),
            "transcript": transcript,
            **asdict(clues),
        }
        for phrase, (clues, transcript) in zip(phrases, words.clues_of_many(wave, phrases), strict=True)
    ]


def spoken(recordings: Sequence[Recording], half: str) -> list[Recording]:
    """Up to MOST recordings of everybody of that half, in an order that says nothing."""
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in recordings:
        wanted = one.label == "bonafide" and one.folder in CORPORA and len(one.text.split()) >= LEAST_WORDS
        if wanted and fits(one.speaker) == (half == "fit"):
            by[one.speaker].append(one)
    chosen = [
        files[round(at)]
        for files in by.values()
        for at in np.linspace(0, len(files) - 1, min(MOST, len(files)))
    ]
    return sorted(chosen, key=lambda one: hashlib.sha256(one.path.encode()).digest())


@click.group()
def main() -> None:
    """Collect, then fit."""


@main.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--half", required=True, type=click.Choice(["fit", "judge"]))
@click.option("--hearing", "names", multiple=True, default=("tiny", "base"), type=click.Choice([*HEARINGS]))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--most", type=int, help="so many recordings at most")
def collect(
    manifest: Path, root: Path, models: Path, half: str, names: tuple[str, ...], keep: Path, most: int | None
) -> None:
    """One line for each sound and phrase; what is in KEEP is not heard again."""
    recordings, noises = read_manifest(manifest, root), read_manifest(manifest, root, (NOISE,))
    sounds = Sounds(
        surroundings(recordings, noises, root),
        ward_sounds(noises)[0],
        [noise.path for noise in noises if noise.folder in NOISES],
    )
    everything = spoken(recordings, half)
    texts = {name: sorted({r.text for r in everything if r.folder == name}) for name in CORPORA}
    chosen = everything[:most]
    lines = [json.loads(row) for row in keep.read_text("utf-8").splitlines()] if keep.exists() else []
    known = {(one["path"], one["place"], one["hearing"]) for one in lines}
    bundle = slots.active(models)
    opened = {
        engine: Transcriber.open(bundle, threads=1, engine=engine)
        for engine in {HEARINGS[name][0] for name in names}
    }
    with keep.open("a", encoding="utf-8") as out:
        for recording in chosen:
            drawn = PLACES[hashlib.sha256(recording.path.encode()).digest()[0] % len(PLACES)]
            trials = list(asked(recording, texts[recording.folder]))
            for place in ("clean", drawn):
                left = [name for name in names if (recording.path, place, name) not in known]
                said = at_the_door(recording, place, sounds) if left else None
                for name in left if said else ():
                    engine, treated = HEARINGS[name]
                    found = heard(opened[engine], treated(said.wave()), [phrase for _, phrase in trials])
                    for at, ((kind, phrase), one) in enumerate(zip(trials, found, strict=True)):
                        row = {
                            "path": recording.path, "place": place, "hearing": name, "trial": at,
                            "kind": kind, "corpus": recording.folder, "speaker": recording.speaker,
                            "phrase": phrase, "snr_db": said.quality.snr_db, **one,
                        }  # fmt: skip
                        out.write(json.dumps(row) + "\n")
                out.flush()


if __name__ == "__main__":
    main()
