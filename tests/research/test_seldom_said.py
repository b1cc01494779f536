"""Which challenge words are seldom said, and how much speech it takes to paste a challenge."""

from __future__ import annotations

from itertools import combinations

import pytest
from click.testing import CliRunner

from device.evidence.wordlists import challenge_words, seldom_words
from research.vocabulary import seldom_said


def test_the_seldom_words_on_the_unit_are_those_that_the_table_counts_least():
    often = seldom_said.said()
    assert set(challenge_words()) <= set(often)
    rarest = sorted(challenge_words(), key=lambda word: (often[word], word))[: len(seldom_words())]
    assert set(seldom_words()) == set(rarest)


def test_the_chance_that_all_are_there_is_that_of_counting_every_draw():
    there = [0.1, 0.5, 0.9, 0.3]
    counted = [one * other for one, other in combinations(there, 2)]
    assert seldom_said.all_there(there, 2) == pytest.approx(sum(counted) / len(counted))


def test_ten_hours_of_speech_paste_one_challenge_in_a_hundred_and_fifty_where_they_pasted_one_in_nine():
    often = seldom_said.said()
    assert seldom_said.pasted(5, 10.0, often, seldom=0) == pytest.approx(0.115, abs=0.002)
    assert seldom_said.pasted(5, 10.0, often, seldom=3) == pytest.approx(0.0065, abs=0.0003)
    assert seldom_said.pasted_digits(6, 10.0, often) > 0.95


def test_the_table_is_printed():
    shown = CliRunner().invoke(seldom_said.main, [])
    assert shown.exit_code == 0, shown.output
    assert "10\t11.47%\t0.65%" in shown.output
