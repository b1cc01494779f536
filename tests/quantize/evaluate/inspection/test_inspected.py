"""Marks against joins: what is found, what is false, and what counts as neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.inspection.places import MARK_LLR
from quantize.evaluate.inspection.chapter import inspection_chapter, inspection_lines
from quantize.evaluate.inspection.files import CODED, EACH, EDITED, MADE, PEOPLE, File, files, whole
from quantize.evaluate.inspection.measure import InspectionResult, measured, summary
from tests.quantize.evaluate.recordings.test_splicing import person

MINUTE = np.zeros(60 * 16_000, np.float32)
STRONG, WEAK = MARK_LLR + 1.0, MARK_LLR - 1.0


def result() -> InspectionResult:
    """Two people, one machine and two edits, a minute each."""
    every = [
        File(PEOPLE, "ann", MINUTE, False),
        File(PEOPLE, "bob", MINUTE, False),
        File(MADE, "machine", MINUTE, True),
        File(EDITED, "ann", MINUTE, False, "deleted", (10.0,), (1.0,)),
        File(CODED, "bob", MINUTE, False, "<inserted>", (20.0, 30.0)),
    ]
    found = [
        [(5.0, WEAK)],
        [(5.0, STRONG)],
        [],
        [(1.1, STRONG), (10.2, STRONG)],  # beside room tone, and within a quarter of a second
        [(20.3, STRONG), (30.1, WEAK)],  # too far away, and too weak
    ]
    people = [every[0], every[1]]
    return measured(
        every,
        [3, 2, -2, 3, 1],
        [2, 3, 4, -1, -2],
        found,
        people,
        [[(4.0, STRONG)], []],
        20,
        ("a", "b"),
    )


def test_a_mark_within_a_quarter_of_a_second_finds_a_join_and_one_beside_room_tone_is_not_false() -> None:
    told = result()
    assert (told.in_use.found.accepted, told.in_use.found.trials) == (1, 3)
    assert told.in_use.false_a_minute.value == pytest.approx(2 / 5)
    assert told.in_use.false_share == pytest.approx(2 / 4)
    assert told.in_use.in_people.value == pytest.approx(1 / 2)
    assert told.by_edit["deleted"].accepted == 1
    assert told.by_edit["<inserted>"].accepted == 0
    assert told.joins.targets == 2
    assert told.joins.nontargets == 2
    assert told.live.nontargets == 1
    weaker = next(one for one in told.curve if one.llr < WEAK)
    assert weaker.found.accepted == 2


def test_no_false_mark_is_bounded_by_the_time_that_was_heard() -> None:
    told = result()
    none = next(one for one in told.curve if one.llr >= STRONG)
    assert none.in_people.value == 0.0
    assert none.in_people.high == pytest.approx(3 / 2)


def test_the_chapter_and_the_lines_say_the_same_and_show_no_name_as_markup() -> None:
    told = result()
    page = inspection_chapter(told)
    assert "<svg" in page
    assert "&lt;inserted&gt;" in page
    assert "1 of 3" in page
    assert any("1 of 3" in line for line in inspection_lines(told))
    assert list(inspection_lines(None)) == []
    assert summary(told)["joins_found"] == [1, 3]


def test_files_are_the_same_every_time_and_edited_ones_say_where() -> None:
    sources = {"ann": person("digits"), "bob": person("words")}
    first, second = (list(files([], sources, Path(), 4)) for _ in range(2))
    assert [one.kind for one in first] == [PEOPLE] * 4 + [EDITED] * 4 + [CODED] * 2
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(first, second, strict=True))
    assert sum(bool(one.edit) for one in first) == 6
    assert all(one.joins_s for one in first if one.edit)
    assert len(list(whole(sources))) == 4
    assert EACH == 50
