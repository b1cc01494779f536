"""Measures how reliably the unit's transcriber hears each candidate word, and writes hearing.tsv.

    python -m quantize.vocabulary.hearing_test --model words.bin [--manifest M.tsv --root DIR]

Every word is spoken once by each synthetic voice (nine of Debian's flite and espeak-ng, unless others are
named), inside phrases of five like those of a door, with other neighbours each time. With a manifest, real
utterances that contain candidates are counted too. The order is fixed by a seed, so the same model gives the
same table.
"""

from __future__ import annotations

import csv
import io
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from device.models.transcriber import Transcriber
from device.phrase import normalise
from quantize.errors import QuantizeError
from quantize.vocabulary.select_words import HERE, candidates

RATE_HZ = 16_000
PHRASE_WORDS = 5
FLITE = ("slt", "rms", "awb", "kal16")
ESPEAK = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb-x-rp+m3")
Wave = npt.NDArray[np.float32]


def speak(voice: str, text: str) -> Wave:
    """`text` by one of the voices, 16 kHz. Raises QuantizeError when the synthesiser is missing."""
    if voice in FLITE:
        command = ["flite", "-voice", voice, "-o", "/dev/stdout", "-t", text]
    else:
        command = ["espeak-ng", "-v", voice, "-s", "140", "--stdout", text]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as err:
        raise QuantizeError(f"{command[0]} is needed; apt-get install flite espeak-ng ({err})") from err
    return _read(io.BytesIO(_with_true_length(done.stdout)))


def _with_true_length(wav: bytes) -> bytes:
    """A WAV written to a pipe states no length; put the real ones into its header."""
    data_at = wav.index(b"data") + 8
    sizes = (len(wav) - 8).to_bytes(4, "little"), (len(wav) - data_at).to_bytes(4, "little")
    return wav[:4] + sizes[0] + wav[8 : data_at - 4] + sizes[1] + wav[data_at:]


def _read(source: io.BytesIO | Path) -> Wave:
    samples, rate_hz = soundfile.read(source, dtype="float32", always_2d=True)
    mono: Wave = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32)
    return mono


def phrases(words: list[str], seed: int) -> Iterator[tuple[str, ...]]:
    """All words once, in phrases of five; the last is filled up with words from the start."""
    order = list(words)
    random.Random(seed).shuffle(order)  # noqa: S311 - a fixed choice, not a secret
    order += order[: -len(order) % PHRASE_WORDS]
    for at in range(0, len(order), PHRASE_WORDS):
        yield tuple(order[at : at + PHRASE_WORDS])


def heard_words(transcript: str) -> set[str]:
    """The words of a transcript, and neighbours joined: "sun flower" was heard as well as "sunflower"."""
    tokens = normalise(transcript)
    return {*tokens, *(left + right for left, right in pairwise(tokens))}


@click.command()
@click.option(
    "--model", type=click.Path(exists=True, path_type=Path), required=True, help="whisper.cpp file."
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), help="Real speech with texts.")
@click.option(
    "--root", type=click.Path(exists=True, path_type=Path), help="Where the manifest's paths begin."
)
@click.option("--voices", default=",".join(FLITE + ESPEAK), show_default=True, help="Separated by commas.")
@click.option("--threads", default=2, show_default=True)
def main(model: Path, manifest: Path | None, root: Path | None, voices: str, threads: int) -> None:
    """Write hearing.tsv beside this script."""
    words = candidates()
    spoken: Counter[str] = Counter()
    heard: Counter[str] = Counter()
    real_spoken: Counter[str] = Counter()
    real_heard: Counter[str] = Counter()
    transcriber = Transcriber(model, threads=threads)
    rounds = [(voice, said) for seed, voice in enumerate(voices.split(",")) for said in phrases(words, seed)]
    with click.progressbar(rounds, label="listening", item_show_func=_shown) as bar:
        for voice, said in bar:
            text = " ".join(said)
            _, transcript = transcriber.clues(speak(voice, ", ".join(said)), text)
            spoken.update(said)
            heard.update(set(said) & heard_words(transcript))
    if manifest is not None and root is not None:
        for path, text in _real(manifest):
            said_here = set(normalise(text)) & set(words)
            if said_here:
                _, transcript = transcriber.clues(_read(root / path), text)
                real_spoken.update(said_here)
                real_heard.update(said_here & heard_words(transcript))
    with (HERE / "hearing.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["word", "spoken", "heard", "real_spoken", "real_heard"])
        for word in words:
            table.writerow([word, spoken[word], heard[word], real_spoken[word], real_heard[word]])
    click.echo(f"heard {heard.total() / spoken.total():.1%} of {spoken.total()} synthetic words")
    if real_spoken:
        click.echo(
            f"heard {real_heard.total() / real_spoken.total():.1%} of {real_spoken.total()} real words"
        )


def _shown(item: tuple[str, tuple[str, ...]] | None) -> str:
    return item[0] if item else ""


def _real(manifest: Path) -> Iterator[tuple[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["label"] == "bonafide" and row["text"] not in ("", "-"):
                yield row["path"], row["text"].lower()


if __name__ == "__main__":
    main()
