"""Chooses the challenge words: common, far apart in sound, and reliably heard by the unit's transcriber.

    python -m research.vocabulary.hearing_test    # measures what is heard; needs the built models
    python -m research.vocabulary.select_words    # phonetic distances, and the stored hearing test

Both take `--language de` for the German list, which Whisper base hears.

Words misheard in the hearing test go first; then the closest pair is broken, again and again, by dropping its
member that is heard less well (or stands closer to a third), until the wanted number is left. The last ones
to go become the duress words: as far from every challenge word as those are from each other, and never part
of a challenge.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.evidence.phrase import normalise
from device.evidence.vocabulary import DIGITS, NATO, SCALES, TEENS, TENS, Language
from device.evidence.wordlists import file_name
from research.vocabulary.phonetics import distance, phonemes

HERE = Path(__file__).parent
FOLDERS = {Language.ENGLISH: HERE, Language.GERMAN: HERE / "german"}
"""Of a language's candidates and tables."""
ESPEAK = {Language.ENGLISH: "en-us", Language.GERMAN: "de"}
"""The voice that says how words are pronounced."""
WORD_LISTS = HERE.parents[1] / "device" / "evidence" / "wordlists"
CHALLENGE_WORDS = 256
DURESS_WORDS = 16
MIN_HEARD = 0.7
MIN_PHONEMES, MAX_PHONEMES = 4, 10
NOT_VOICES = ("word", "real_spoken", "real_heard")
"""The other columns of hearing.tsv have a voice's name."""


def candidates(language: Language = Language.ENGLISH) -> list[str]:
    """The words of the candidate file, sorted, without those that spell a digit or a letter, or that German
    would write with a letter of its own."""
    path = FOLDERS[language] / "candidates.txt"
    lines = (line for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
    words = sorted({word for line in lines for word in line.split() if word.isalpha()})
    if language is Language.GERMAN:
        return [word for word in words if normalise(word, language) == (word.lower(),)]
    taken = {*DIGITS, *TEENS, *TENS, *SCALES, *NATO}
    return [word for word in words if word not in taken]


def heard_share(language: Language = Language.ENGLISH) -> dict[str, float]:
    """Share of the voices in which the transcriber heard the word; empty when the test has not been run."""
    path = FOLDERS[language] / "hearing.tsv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    voices = [name for name in rows[0] if name not in NOT_VOICES]
    return {row["word"]: sum(int(row[voice]) for voice in voices) / len(voices) for row in rows}


def distances(spoken: Mapping[str, tuple[str, ...]]) -> npt.NDArray[np.float64]:
    """Symmetric matrix of phonetic distances, infinite on its diagonal."""
    words = list(spoken)
    matrix = np.full((len(words), len(words)), np.inf)
    for i, left in enumerate(words):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = distance(spoken[left], spoken[words[j]])
    return matrix


def thin_out(
    words: list[str], apart: npt.NDArray[np.float64], heard: Mapping[str, float], keep: int
) -> list[int]:
    """Indices of the `keep` words left when the closest pair is broken again and again."""
    left = np.array([i for i, word in enumerate(words) if heard.get(word, 1.0) >= MIN_HEARD])
    while len(left) > keep:
        part = apart[np.ix_(left, left)]
        i, j = divmod(int(part.argmin()), len(left))
        share_i, share_j = heard.get(words[left[i]], 1.0), heard.get(words[left[j]], 1.0)
        if share_i != share_j:
            drop = i if share_i < share_j else j
        else:
            drop = i if np.sort(part[i])[1] <= np.sort(part[j])[1] else j
        left = np.delete(left, drop)
    return [int(i) for i in left]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=WORD_LISTS, show_default=True)
@click.option("--table", type=click.Path(path_type=Path), help="What became of each word: selection.tsv.")
@click.option(
    "--language", "code", type=click.Choice([str(one) for one in Language]), default="en", show_default=True
)
def main(out: Path, table: Path | None, code: str) -> None:
    """Write challenge.txt and duress.txt for the unit, and what became of each candidate."""
    language = Language(code)
    table = table or FOLDERS[language] / "selection.tsv"
    words = candidates(language)
    found = phonemes(words, ESPEAK[language])
    spoken = {word: phones for word, phones in found.items() if _speakable(phones)}
    words = list(spoken)
    apart, heard = distances(spoken), heard_share(language)
    pool = thin_out(words, apart, heard, CHALLENGE_WORDS + DURESS_WORDS)
    core = set(thin_out([words[i] for i in pool], apart[np.ix_(pool, pool)], heard, CHALLENGE_WORDS))
    challenge = [pool[i] for i in range(len(pool)) if i in core]
    duress = [pool[i] for i in range(len(pool)) if i not in core]
    if len(challenge) < CHALLENGE_WORDS or len(duress) < DURESS_WORDS:
        raise click.ClickException(f"only {len(pool)} words are heard well enough; add candidates")
    note = "# Written by research/vocabulary/select_words.py; do not edit by hand.\n"
    out.mkdir(parents=True, exist_ok=True)
    for kind, chosen in (("challenge", challenge), ("duress", duress)):
        text = note + "".join(f"{words[i]}\n" for i in chosen)
        (out / file_name(kind, language)).write_text(text, "utf-8")
    _write_table(table, words, pool, set(duress), apart, spoken, heard)
    nearest = apart[np.ix_(pool, pool)].min(axis=1)
    click.echo(
        f"{len(words)} candidates -> {len(challenge)} challenge and {len(duress)} duress words; "
        f"nearest neighbour: min {nearest.min():.3f}, median {np.median(nearest):.3f} "
        f"(all candidates: min {apart.min():.3f})"
    )


def _speakable(phones: tuple[str, ...]) -> bool:
    return MIN_PHONEMES <= len(phones) <= MAX_PHONEMES


def _write_table(
    path: Path,
    words: list[str],
    pool: list[int],
    duress: set[int],
    apart: npt.NDArray[np.float64],
    spoken: Mapping[str, tuple[str, ...]],
    heard: Mapping[str, float],
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["word", "use", "phonemes", "nearest", "distance", "heard"])
        for i in pool:
            others = [j for j in pool if j != i]
            nearest = others[int(apart[i, others].argmin())]
            use = "duress" if i in duress else "challenge"
            share = f"{heard[words[i]]:.2f}" if words[i] in heard else "-"
            row = [
                words[i],
                use,
                " ".join(spoken[words[i]]),
                words[nearest],
                f"{apart[i, nearest]:.3f}",
                share,
            ]
            table.writerow(row)


if __name__ == "__main__":
    sys.exit(main())
