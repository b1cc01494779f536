"""The words check in German: how its score becomes an LLR, and how often it is right.

    P="python -m research.fits.german"
    $P collect --half fit --out F.jsonl           # the voices that also chose the words
    $P fit F.jsonl                                # the map of device/models/words/languages.py
    $P collect --half judged --out T.jsonl [--words DIR]
    $P report T.jsonl                             # the table of docs/evaluation/attempts.md

Voices: the people of Debian's `mbrola-de*` through espeak-ng (`mbrola` from contrib, the voices from
non-free), SVOX Pico (`libttspico-utils`, non-free), espeak-ng's own. DIR holds the German words that a person
said for `ktuberling-data` (`sounds/de/*.ogg`), put one behind another. Every phrase is drawn as the door
draws it, from a fixed seed, and asked for itself, with one word replaced, and for another phrase; and
somebody says an English one.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import soxr

from device.access.challenge import ChallengeSettings, Style, seldom_in
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words, seldom_words
from device.evidence.wordlists.sentences import DIGITS
from device.model_store import slots
from device.models.words.languages import transcriber
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, Fusion, Transcriber
from device.models.words.whisper_onnx import OnnxWhisper
from device.settings import models_dir
from quantize.evaluate.figures.intervals import Share
from research.fits.phrase import clues_of, logistic
from research.vocabulary.hearing_test import GERMAN, PICO, speak

DE = Language.GERMAN
FIT = GERMAN
JUDGED = ("mb-de3", "mb-de5", "mb-de6", "mb-de8", PICO, "de")
PERSON = "a person"
ENGLISH_VOICE = "en-us"
THRESHOLD_LLR = 2.0
NEAR = 2
GAP_S = 0.15
SAID_FOR_A_GAME = {
    "Ananas": "pizzeria_pineapple", "Astronaut": "moon_astronaut", "Auge": "eye", "Auto": "tv_car",
    "Baum": "tv_tree", "Blume": "flower", "Brokkoli": "pizzeria_broccolli", "Esel": "egypt_donkey",
    "Fahrrad": "tv_bicycle", "Gurke": "pizzeria_cucumber", "Hotel": "moon_hotel", "Kamel": "egypt_camel",
    "Mantel": "coat", "Monster": "moon_monster", "Mund": "mouth", "Nase": "nose", "Oase": "egypt_oasis",
    "Olive": "pizzeria_olive", "Oregano": "pizzeria_oregano", "Planet": "moon_planet",
    "Pyramide": "egypt_pyramid", "Radar": "moon_radar", "Rakete": "moon_rocket", "Salami": "pizzeria_salami",
    "Satellit": "moon_satellite", "Stern": "moon_star", "Tomate": "pizzeria_tomato",
    "Zwiebel": "pizzeria_onion",
}  # fmt: skip
"""What the game's files say, by the dictionary; not chosen by what is heard in them."""


def drawn(style: Style, dice: random.Random) -> list[str]:
    """The words of a phrase as a door asks for it: three of five seldom said; of six digits one twice."""
    settings = ChallengeSettings(style)
    if style is Style.WORDS:
        seldom = seldom_in(settings.words)
        others = [word for word in challenge_words(DE) if word not in seldom_words(DE)]
        words = [*dice.sample(seldom_words(DE), seldom), *dice.sample(others, settings.words - seldom)]
        dice.shuffle(words)
        return words
    while True:
        digits = [dice.choice(DIGITS[DE]) for _ in range(settings.digits)]
        if len(set(digits)) < len(digits) and all(a != b for a, b in pairwise(digits)):
            return digits


def trials(
    words: list[str], among: tuple[str, ...], other: list[str], dice: random.Random
) -> Iterator[tuple[str, str]]:
    """(kind, phrase) to ask for where `words` were said."""
    yield "right", " ".join(words)
    for at in dice.sample(range(len(words)), NEAR):
        changed = [*words]
        changed[at] = dice.choice([one for one in among if one not in words])
        yield "near", " ".join(changed)
    yield "other", " ".join(other)


def spoken(voice: str, words: list[str], folder: Path | None) -> Wave:
    """16 kHz, between stretches of quiet."""
    quiet = np.zeros(int(0.3 * SAMPLE_RATE_HZ), np.float32)
    if voice != PERSON:
        return np.concatenate([quiet, speak(voice, ", ".join(words)), quiet])
    if folder is None:
        raise SystemExit("--words names the folder of the person's words")
    parts = [quiet]
    for word in words:
        wave, rate_hz = soundfile.read(
            folder / f"{SAID_FOR_A_GAME[word]}.ogg", dtype="float32", always_2d=True
        )
        mono = soxr.resample(wave.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
        parts += [np.asarray(mono, np.float32), np.zeros(int(GAP_S * SAMPLE_RATE_HZ), np.float32)]
    return np.concatenate([*parts, quiet])


def collect(options: argparse.Namespace) -> None:
    bundle = slots.active(models_dir())
    files = bundle.path(BASE_ENCODER_ROLE), bundle.path(BASE_ROLE)
    german = transcriber(OnnxWhisper(*files, threads=1), bundle.version(BASE_ROLE), DE)
    voices = options.voices.split(",") if options.voices else FIT if options.half == "fit" else JUDGED
    with options.out.open("a", encoding="utf-8") as out:
        for voice in [*voices, *([PERSON] if options.words else [])]:
            dice = random.Random(zlib.crc32(f"{options.half} {voice}".encode()))
            for number in range(options.phrases):
                style = Style.DIGITS if number % 4 == 3 and voice != PERSON else Style.WORDS
                among = challenge_words(DE) if style is Style.WORDS else DIGITS[DE]
                words, other = drawn(style, dice), drawn(style, dice)
                if voice == PERSON:
                    words = dice.sample(sorted(SAID_FOR_A_GAME), 5)
                asked = list(trials(words, among, other, dice))
                sounds = [(spoken(voice, words, options.words), asked)]
                if number % 4 == 0 and voice != PERSON:
                    english = dice.sample(challenge_words(), 5)
                    sounds.append((spoken(ENGLISH_VOICE, english, None), [("english", " ".join(words))]))
                for wave, pairs in sounds:
                    for record in _records(german, wave, pairs, options.half):
                        out.write(json.dumps({"voice": voice, "style": style, **record}) + "\n")
                out.flush()


def _records(
    german: Transcriber, wave: Wave, pairs: list[tuple[str, str]], half: str
) -> Iterator[dict[str, object]]:
    """Clues to fit the map on; LLRs of the whole check to be judged."""
    phrases = [phrase for _, phrase in pairs]
    if half == "fit":
        for (kind, phrase), (clues, heard) in zip(pairs, german.clues_of_many(wave, phrases), strict=True):
            yield {"kind": kind, "phrase": phrase, "transcript": heard, **asdict(clues)}
        return
    for (kind, phrase), score in zip(pairs, german.scores(wave, phrases), strict=True):
        yield {"kind": kind, "phrase": phrase, "transcript": score.transcript, "llr": score.llr}


def fit(options: argparse.Namespace) -> None:
    records = [one for one in _read(options.files) if clues_of(one).credible]
    x = np.array([[Fusion().score(clues_of(one))] for one in records])
    right = np.array([one["kind"] == "right" for one in records])
    # Platt's targets: on so few, right and wrong do not overlap, and no slope would be steep enough.
    y = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    shares = {"right": 0.5, "near": 0.2, "other": 0.2, "english": 0.1}
    sizes = {kind: sum(one["kind"] == kind for one in records) for kind in shares}
    w = np.array([shares[one["kind"]] / sizes[one["kind"]] for one in records])
    scale, offset = logistic(x, y, w, 0.0)
    print(f"{len(records)} trials of {len({one['voice'] for one in records})} voices, {sizes}")
    print(f"scale = {scale:.4f}, offset = {offset:.4f}")


def report(options: argparse.Namespace) -> None:
    records = _read(options.files)
    for style in (Style.WORDS, Style.DIGITS):
        for voice in (*dict.fromkeys(one["voice"] for one in records), "all"):
            mine = [one for one in records if one["style"] == style and voice in (one["voice"], "all")]
            cells = []
            for kind in ("right", "near", "other", "english"):
                llrs = [float(str(one["llr"])) for one in mine if one["kind"] == kind]
                if llrs:
                    share = Share(sum(llr >= THRESHOLD_LLR for llr in llrs), len(llrs))
                    low, high = share.interval()
                    cells.append(f"{kind} {share.hits} of {share.of} [{low:.1%}, {high:.1%}]")
            if cells:
                print(f"{style:7}{voice:12}" + "  ".join(cells))


def _read(files: list[Path]) -> list[dict[str, object]]:
    return [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("collect")
    command.set_defaults(work=collect)
    command.add_argument("--half", choices=("fit", "judged"), required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--phrases", type=int, default=12, help="of each voice; every fourth is of digits")
    command.add_argument("--voices", default="", help="separated by commas; those of the half by default")
    command.add_argument("--words", type=Path, help="the folder of the person's words")
    for name, work in (("fit", fit), ("report", report)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
