"""Measures how reliably the unit's transcriber hears each candidate word, and writes hearing.tsv.

    python -m research.vocabulary.hearing_test [--manifest M.tsv --root DIR]

Every word is spoken once by each synthetic voice (Debian's flite, espeak-ng and festival, unless others are
named), inside phrases of five like those of a door, with other neighbours each time. With a manifest, real
utterances that contain candidates are counted too. The table has a column for each voice, and voices that are
not named keep theirs, so a long test may be run in parts. The order is fixed by the voice's name: the same
model gives the same table.
"""

from __future__ import annotations

import csv
import random
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import click

from device.audio.utterance import Wave
from device.evidence.phrase import normalise
from device.evidence.vocabulary import Language
from device.model_store import slots
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine, models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.evaluate.recordings.sound import read_wave
from research.vocabulary.select_words import FOLDERS, NOT_VOICES, candidates

PHRASE_WORDS = 5
FLITE = ("slt", "rms", "awb", "kal16")
ESPEAK = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb-x-rp+m3")
FESTIVAL = ("ked_diphone",)
GERMAN = ("mb-de1", "mb-de2", "mb-de4", "mb-de7")
"""Four people of Debian's `mbrola-de*`, through espeak-ng (non-free: installed by hand, if at all). The
others choose no words and fit nothing: they are reported (`research.fits.german`)."""
PICO = "pico-de"
VOICES = {Language.ENGLISH: FLITE + ESPEAK + FESTIVAL, Language.GERMAN: GERMAN}


def speak(voice: str, text: str) -> Wave:
    """`text` by one of the voices, 16 kHz. Raises QuantizeError when the synthesiser is missing."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["espeak-ng", "-v", voice, "-s", "140", "-w", file.name, text]
        if voice in FLITE:
            command = ["flite", "-voice", voice, "-o", file.name, "-t", text]
        elif voice in FESTIVAL:
            command = ["text2wave", "-eval", f"(voice_{voice})", "-o", file.name]
        elif voice == PICO:
            command = ["pico2wave", "-l", "de-DE", "-w", file.name, text]
        try:
            subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as err:
            raise QuantizeError(
                f"{command[0]} is needed; apt-get install flite espeak-ng festival festvox-kdlpc16k ({err})"
            ) from err
        return read_wave(Path(file.name))


def phrases(words: list[str], seed: int) -> Iterator[tuple[str, ...]]:
    """All words once, in phrases of five; the last is filled up with words from the start."""
    order = list(words)
    random.Random(seed).shuffle(order)
    order += order[: -len(order) % PHRASE_WORDS]
    for at in range(0, len(order), PHRASE_WORDS):
        yield tuple(order[at : at + PHRASE_WORDS])


def heard_words(transcript: str, language: Language = Language.ENGLISH) -> set[str]:
    """The words of a transcript, and neighbours joined: "sun flower" was heard as well as "sunflower"."""
    tokens = normalise(transcript, language)
    return {*tokens, *(left + right for left, right in pairwise(tokens))}


@click.command()
@click.option(
    "--models", type=click.Path(exists=True, path_type=Path), default=models_dir(), help="The built bundle."
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), help="Real speech with texts.")
@click.option(
    "--root", type=click.Path(exists=True, path_type=Path), help="Where the manifest's paths begin."
)
@click.option("--voices", default="", help="Separated by commas; else those that choose words.")
@click.option(
    "--language", "code", type=click.Choice([str(one) for one in Language]), default="en", show_default=True
)
@click.option("--threads", default=2, show_default=True)
def main(
    models: Path, manifest: Path | None, root: Path | None, voices: str, code: str, threads: int
) -> None:
    """Write hearing.tsv beside the language's candidates."""
    language = Language(code)
    words = candidates(language)
    engine = WordsEngine.ONNX if language is Language.ENGLISH else WordsEngine.WHISPER_BASE
    transcriber = Transcriber.open(slots.active(models), threads=threads, engine=engine, language=language)
    table = load_table(FOLDERS[language] / "hearing.tsv", words)
    chosen = [voice for voice in voices.split(",") if voice] or [*VOICES[language]]
    rounds = [(voice, said) for voice in chosen for said in phrases(words, zlib.crc32(voice.encode()))]
    for voice in chosen:
        for word in words:
            table[word][voice] = 0
    with click.progressbar(rounds, label="listening", item_show_func=_shown) as bar:
        for voice, said in bar:
            _, transcript = transcriber.clues(speak(voice, ", ".join(said)), " ".join(said))
            heard = heard_words(transcript, language)
            for word in said:
                table[word][voice] |= int({*normalise(word, language)} <= heard)
    if manifest is not None and root is not None:
        _listen_to_people(transcriber, manifest, root, table)
    _write_table(FOLDERS[language] / "hearing.tsv", table)
    for voice in chosen:
        click.echo(
            f"{voice}: heard {sum(table[word][voice] for word in words) / len(words):.1%} of {len(words)}"
        )


Table = dict[str, dict[str, int]]
"""A row for each word: 1 or 0 for each voice, and how often people said it and were heard."""


def load_table(path: Path, words: list[str]) -> Table:
    """What was measured before about `words`; a row of zeros for real speech where nothing was."""
    table: Table = {word: {"real_spoken": 0, "real_heard": 0} for word in words}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if row["word"] in table:
                    table[row["word"]] = {name: int(row[name]) for name in row if name != "word"}
    return table


def _write_table(path: Path, table: Mapping[str, Mapping[str, int]]) -> None:
    voices = sorted({name for row in table.values() for name in row} - set(NOT_VOICES))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["word", "real_spoken", "real_heard", *voices])
        for word, row in table.items():
            writer.writerow([word, row["real_spoken"], row["real_heard"], *(row[voice] for voice in voices)])


def _listen_to_people(transcriber: Transcriber, manifest: Path, root: Path, table: Table) -> None:
    spoken: Counter[str] = Counter()
    heard: Counter[str] = Counter()
    for one in read_manifest(manifest, root, ("bonafide",)):
        if said := set(normalise(one.text)) & set(table):
            _, transcript = transcriber.clues(read_wave(root / one.path), one.text)
            spoken.update(said)
            heard.update(said & heard_words(transcript))
    for word, row in table.items():
        row["real_spoken"], row["real_heard"] = spoken[word], heard[word]
    if spoken:
        click.echo(f"people: heard {heard.total() / spoken.total():.1%} of {spoken.total()}")


def _shown(item: tuple[str, tuple[str, ...]] | None) -> str:
    return item[0] if item else ""


if __name__ == "__main__":
    main()
