"""How the challenge words are chosen, and that the lists on the unit are what the script makes of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words, duress_words, file_name, seldom_words
from research.vocabulary import select_words
from research.vocabulary.phonetics import distance
from research.vocabulary.seldom_said import said

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def test_the_same_sounds_are_no_distance_apart_and_like_sounds_less_than_unlike_ones():
    cat, bat, sofa = ("k", "æ", "t"), ("b", "æ", "t"), ("s", "oʊ", "f", "ə")
    assert distance(cat, cat) == 0.0
    assert 0.0 < distance(cat, bat) < distance(cat, sofa) <= 1.0
    assert distance(cat, sofa) == distance(sofa, cat)


def test_words_that_are_misheard_go_first_and_then_one_of_the_closest_pair():
    words = ["cat", "bat", "sofa", "mumble"]
    apart = np.full((4, 4), 0.9)
    np.fill_diagonal(apart, np.inf)
    apart[0, 1] = apart[1, 0] = 0.1
    heard = {"cat": 1.0, "bat": 0.8, "sofa": 1.0, "mumble": 0.2}
    assert select_words.thin_out(words, apart, heard, keep=2) == [0, 2]


@pytest.mark.parametrize("language", list(Language))
def test_every_word_on_the_unit_was_heard_and_none_sounds_like_another(language: Language):
    heard = select_words.heard_share(language)
    chosen = {*challenge_words(language), *duress_words(language)}
    assert len(chosen) == 272
    assert min(heard[word] for word in chosen) >= select_words.MIN_HEARD


@needs_espeak
@pytest.mark.parametrize("language", list(Language))
def test_the_lists_on_the_unit_come_out_of_the_script(tmp_path: Path, language: Language):
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    if language is Language.GERMAN and " 1.51 " not in version:
        pytest.skip("the German list was chosen by the phonemes of espeak-ng 1.51")
    table = tmp_path / "selection.tsv"
    options = ["--out", str(tmp_path), "--table", str(table), "--language", str(language)]
    result = CliRunner().invoke(select_words.main, options)
    assert result.exit_code == 0, result.output
    for name in (file_name("challenge", language), file_name("duress", language)):
        assert (tmp_path / name).read_text("utf-8") == (select_words.WORD_LISTS / name).read_text("utf-8")
    assert table.read_text("utf-8").count("\n") > 272


def test_the_words_seldom_said_are_the_rarest_of_the_list():
    for language in Language:
        often, seldom = said(language), {*seldom_words(language)}
        rarest = sorted(challenge_words(language), key=lambda word: (often[word], word))[: len(seldom)]
        assert seldom == {*rarest}
