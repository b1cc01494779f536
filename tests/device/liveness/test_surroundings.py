from __future__ import annotations

import numpy as np
import pytest

from device.liveness.surroundings import change
from device.liveness.weights import shipped
from tests.device.liveness.sounds import Wave, noise, speech
from tests.speech import Reading


def llr(before: Wave, inside: Wave) -> float:
    found = change(before, inside)
    assert found is not None
    return shipped().surroundings.llr(found.score)


@pytest.fixture
def voice(reader: list[Reading]) -> Wave:
    return speech(reader[0].path)


def test_a_voice_in_an_unchanged_room_speaks_for_the_person(voice: Wave) -> None:
    room = noise(1.0 + len(voice) / 16_000, level=0.003)
    before, during = room[:16_000], room[16_000:]
    assert llr(before, voice + during[: len(voice)]) > 0.0


def test_noise_that_comes_with_the_voice_speaks_against(voice: Wave) -> None:
    room = noise(1.0 + len(voice) / 16_000, level=0.0005)
    brought = noise(len(voice) / 16_000, seed=2, level=0.01)
    inside = voice + room[16_000 : 16_000 + len(voice)] + brought[: len(voice)]
    alone = voice + room[16_000 : 16_000 + len(voice)]
    assert llr(room[:16_000], inside) < llr(room[:16_000], alone) - 1.0


def test_too_little_before_the_voice_says_nothing(voice: Wave) -> None:
    assert change(noise(0.2), voice) is None


def test_too_short_a_voice_says_nothing() -> None:
    assert change(noise(1.0), noise(0.5)) is None


def test_digital_silence_before_is_no_room(voice: Wave) -> None:
    assert change(np.zeros(16_000, np.float32), voice) is None


def test_what_is_no_number_says_nothing(voice: Wave) -> None:
    assert change(np.full(16_000, np.nan, np.float32), voice) is None
    assert change(noise(1.0), np.full(16_000, np.inf, np.float32)) is None
