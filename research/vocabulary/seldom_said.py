"""Which challenge words people seldom say, and how much recorded speech it takes to paste a challenge.

    python -m research.vocabulary.seldom_said           # the table of docs/live-check.md
    python -m research.vocabulary.seldom_said --count   # reads the frequencies anew (pip install wordfreq)

`--language de` for the German list. Frequencies are those of wordfreq 3.1.1 (Speer 2022; subtitles, books,
news, the web; CC BY-SA 4.0). A person says 150 words a minute; each word comes up by chance, whatever was
said before.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable

import click
import numpy as np
import numpy.typing as npt

from device.access.challenge import ChallengeSettings, Style, seldom_in
from device.evidence.vocabulary import Language
from device.evidence.wordlists import SELDOM_WORDS, challenge_words, file_name, seldom_words
from device.evidence.wordlists.sentences import DIGITS
from research.vocabulary.select_words import FOLDERS, WORD_LISTS

WORDS_PER_HOUR = 9_000
HOURS = (1, 5, 10, 20, 50, 100)
DRAWS = 20_000

Floats = npt.NDArray[np.float64]


def said(language: Language = Language.ENGLISH) -> dict[str, float]:
    """How often each word is said, of all words."""
    with (FOLDERS[language] / "said.tsv").open(encoding="utf-8", newline="") as file:
        return {row["word"]: float(row["of_a_million"]) / 1e6 for row in csv.DictReader(file, delimiter="\t")}


def all_there(there: Iterable[float], count: int) -> float:
    """The chance that `count` different words, drawn evenly from those of which each is there with its
    chance, are all there: an elementary symmetric polynomial."""
    chances = list(there)
    sums = np.zeros(count + 1)
    sums[0] = 1.0
    for chance in chances:
        sums[1:] += chance * sums[:-1]
    return float(sums[count]) / math.comb(len(chances), count)


def pasted(
    words: int,
    hours: float,
    often: dict[str, float],
    *,
    seldom: int,
    language: Language = Language.ENGLISH,
) -> float:
    """The share of challenges of so many words, `seldom` of them seldom said, of which somebody has every
    word after so many hours of one person's speech."""
    there = {
        word: 1.0 - math.exp(-often[word] * WORDS_PER_HOUR * hours) for word in challenge_words(language)
    }
    if not seldom:
        return all_there(there.values(), words)
    rare = {word: there.pop(word) for word in seldom_words(language)}
    return all_there(rare.values(), seldom) * all_there(there.values(), words - seldom)


def pasted_digits(
    digits: int, hours: float, often: dict[str, float], language: Language = Language.ENGLISH
) -> float:
    """The same of digits, by drawing: some of them are asked twice, and one recording is enough."""
    there = np.array([1.0 - math.exp(-often[digit] * WORDS_PER_HOUR * hours) for digit in DIGITS[language]])
    dice = np.random.default_rng(1)
    drawn = dice.integers(10, size=(DRAWS, digits))
    twice = np.array([len(set(one)) < digits for one in drawn]) & (np.diff(drawn) != 0).all(axis=1)
    return float(np.mean([there[list(set(one))].prod() for one in drawn[twice]]))


@click.command()
@click.option("--count", is_flag=True, help="Read the frequencies anew, and write the list of seldom words.")
@click.option("--language", "code", type=click.Choice([str(one) for one in Language]), default="en")
def main(count: bool, code: str) -> None:
    """Print what share of challenges can be pasted after how many hours."""
    language = Language(code)
    if count:
        _count(language)
    often, settings = said(language), ChallengeSettings(Style.WORDS)
    click.echo("hours\tany 5 words\tas drawn\tdigits")
    for hours in HOURS:
        shares = (
            pasted(settings.words, hours, often, seldom=0, language=language),
            pasted(settings.words, hours, often, seldom=seldom_in(settings.words), language=language),
            pasted_digits(settings.digits, hours, often, language),
        )
        click.echo(f"{hours}\t" + "\t".join(f"{share:.2%}" for share in shares))


def _count(language: Language) -> None:
    import wordfreq

    words = challenge_words(language)
    often = {w: wordfreq.word_frequency(w, str(language)) for w in (*words, *DIGITS[language])}
    rows = sorted(often, key=lambda word: (often[word], word))
    lines = "".join(f"{word}\t{often[word] * 1e6:.3f}\n" for word in rows)
    (FOLDERS[language] / "said.tsv").write_text("word\tof_a_million\n" + lines, "utf-8")
    rare = sorted([word for word in rows if word in words][:SELDOM_WORDS])
    note = "# Written by research/vocabulary/seldom_said.py; do not edit by hand.\n"
    (WORD_LISTS / file_name("seldom", language)).write_text(
        note + "".join(f"{word}\n" for word in rare), "utf-8"
    )


if __name__ == "__main__":
    main()
