"""Clips in which nobody says the phrase, and the counting of what was accepted of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence.phrase import PhraseScore
from quantize.evaluate.checks.nonspeech import ASKED_AGAIN, GATED, KINDS, UNGATED, clips, judge_clips
from quantize.evaluate.checks.phrase import rate


class Believer:
    """A words check that believes everything, and remembers how often it was asked."""

    def __init__(self, llr: float) -> None:
        self.llr = llr
        self.asked = 0

    def scores(self, wave: Wave, phrases: Sequence[str]) -> list[PhraseScore]:
        self.asked += 1
        return [PhraseScore(self.llr, "") for _ in phrases]

    def ruled_out(self, wave: Wave, phrases: Sequence[str], llr: float) -> list[bool]:
        return [False] * len(phrases)


class Deaf(Believer):
    def scores(self, wave: Wave, phrases: Sequence[str]) -> list[PhraseScore]:
        raise DeviceError("nothing to judge")


def judged(check: Believer, count: int = 2 * len(KINDS)) -> dict[str, tuple[int, int]]:
    made = clips([], Path(), count)
    found = judge_clips(check, made, 2.0, lambda: None)
    return {name: (one.accepted, one.trials) for name, one in found.items()}


def test_clips_are_the_same_each_time_and_of_every_kind() -> None:
    first, second = (list(clips([], Path(), 14)) for _ in range(2))
    assert [kind for kind, _ in first] == list(KINDS) * 2
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_clips_are_waves_that_a_microphone_could_give() -> None:
    for kind, clip in clips([], Path(), 21):
        assert clip.dtype == np.float32
        assert np.abs(clip).max() < 1.0
        assert (kind == "silence") == (not clip.any())


def test_the_gate_stops_what_is_no_voice_and_a_share_is_judged_all_the_same() -> None:
    check = Believer(12.0)
    found = judged(check)
    assert found[f"{GATED}, silence"] == (0, 2)
    assert found[f"{UNGATED}, silence"] == (1, 1)
    assert found[GATED][1] == 2 * len(KINDS)


def test_what_a_check_refuses_is_not_accepted() -> None:
    assert judged(Believer(1.9))[UNGATED][0] == 0
    assert judged(Deaf(12.0))[UNGATED][0] == 0


def test_clips_that_would_lead_to_one_more_phrase_are_counted_beside() -> None:
    for llr, weak in ((12.0, False), (2.0, False), (1.9, True), (0.0, True), (-0.1, False)):
        found = judged(Believer(llr))
        assert (found[f"{UNGATED}, {ASKED_AGAIN}"][0] > 0) == weak
        assert found[f"{UNGATED}, {ASKED_AGAIN}"][1] == found[UNGATED][1]


def test_nothing_accepted_has_the_interval_of_the_rule_of_three() -> None:
    found = rate(["a", "b"], [[False] * 150, [False] * 150])
    assert (found.accepted, found.trials, found.low, found.high) == (0, 300, 0.0, 0.01)


def test_an_interval_widens_when_one_speaker_makes_all_the_errors() -> None:
    one = rate([f"s{at}" for at in range(20)], [[True] * 10, *[[False] * 10] * 19])
    spread = rate([f"s{at}" for at in range(20)], [[True, *[False] * 9]] * 10 + [[False] * 10] * 10)
    assert one.value == spread.value == pytest.approx(0.05)
    assert one.high > spread.high
