"""Refusals of a voice: which count, what is kept of them, and for how long."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from device.access.memory.history import History
from device.access.memory.remembered import Remembered
from device.access.memory.voice_refusals import OFTEN, WITHIN_DAYS, VoiceRefusals, with_one_more
from tests.device.door_world import NvCounter, mac

DAY = 20_788


def refused(*days: int, enrolment: int = 1) -> VoiceRefusals:
    found = None
    for day in days:
        found = with_one_more(found, enrolment, day)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("days", "often"),
    [
        ((DAY, DAY), False),
        ((DAY, DAY, DAY), True),
        ((DAY - WITHIN_DAYS + 1, DAY - 3, DAY), True),
        ((DAY - WITHIN_DAYS, DAY - 3, DAY), False),
        ((DAY - 1, DAY - 1, DAY - 1), True),
        ((DAY + 1, DAY + 1, DAY + 1), False),
        ((DAY + 400, DAY + 400, DAY), False),
    ],
)
def test_three_refusals_in_a_week_are_often_and_days_ahead_of_the_clock_do_not_count(
    days: tuple[int, ...], often: bool
) -> None:
    assert refused(*days).often(1, DAY) is often


def test_no_more_than_three_days_are_kept_and_an_older_enrolment_s_do_not_count() -> None:
    found = refused(*[DAY] * 9)
    assert found.days == (DAY,) * OFTEN
    assert not found.often(2, DAY)
    assert with_one_more(found, 2, DAY) == VoiceRefusals(2, (DAY,))
    assert found.counts(DAY + WITHIN_DAYS - 1)
    assert not found.counts(DAY + WITHIN_DAYS)


def opened(folder: Path, counter: NvCounter) -> History:
    return History(folder / "history", counter, mac, opened_s=1.0)


def test_they_outlive_a_restart_and_go_with_the_person(tmp_path: Path) -> None:
    counter = NvCounter()
    with closing(opened(tmp_path, counter)) as history:
        history.keep_voice_refusals("anna", refused(DAY, DAY))
        history.keep_voice_refusals("BRUNO", refused(DAY - WITHIN_DAYS))
    with closing(opened(tmp_path, counter)) as history:
        assert history.voice_refusals("ANNA") == refused(DAY, DAY)
        history.drop_voice_refusals(DAY)
        assert history.voice_refusals("BRUNO") is None
        assert history.forget("anna")
        assert history.voice_refusals("ANNA") is None
        history.keep_voice_refusals("CARLA", refused(DAY))
        history.keep_only(["ANNA"])
        assert history.voice_refusals("CARLA") is None
        history.keep_voice_refusals("ANNA", refused(DAY))
        history.keep_voice_refusals("ANNA", None)
        assert history.voice_refusals("ANNA") is None


def test_a_file_without_them_is_read_and_a_hostile_one_is_refused() -> None:
    whole = Remembered(1, voice_refusals={"ANNA": refused(DAY, DAY + 1)})
    assert Remembered.from_bytes(whole.to_bytes()) == whole
    table = json.loads(whole.to_bytes())
    del table["voice_refusals"]
    assert Remembered.from_bytes(json.dumps(table).encode()) == Remembered(1)
    for bad in ([], [1], [0, DAY], [1, DAY, DAY, DAY, DAY], ["x", DAY], [2**60, DAY], {}, None, [1, None]):
        table["voice_refusals"] = {"ANNA": bad}
        with pytest.raises((ValueError, TypeError, KeyError)):
            Remembered.from_bytes(json.dumps(table).encode())
