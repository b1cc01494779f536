"""One frame, to know whether a microphone hears at all."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest

from device.audio.errors import AudioDeviceLostError
from device.audio.microphone import REST_S, TRIES, hear_one_frame
from device.audio.source import framed
from device.audio.utterance import FRAME_SAMPLES, Frame


class Held:
    """A microphone that another process has the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.open = 0

    def frames(self, stop: Event) -> Iterator[Frame]:
        self.open += 1
        try:
            if self.times:
                self.times -= 1
                raise AudioDeviceLostError("another program is using it")
            yield from framed(np.ones(FRAME_SAMPLES, np.int16))
        finally:
            self.open -= 1


@pytest.mark.parametrize("times", range(TRIES))
def test_a_microphone_that_another_process_has_for_a_moment_is_asked_again(times: int) -> None:
    source, rests = Held(times), list[float]()
    hear_one_frame(source, rests.append)
    assert rests == [REST_S] * times
    assert source.open == 0


def test_one_that_stays_away_is_said_to_be() -> None:
    rests: list[float] = []
    with pytest.raises(AudioDeviceLostError, match="another program"):
        hear_one_frame(Held(TRIES), rests.append)
    assert len(rests) == TRIES - 1
