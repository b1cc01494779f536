"""The chirp of the self-test through a loudspeaker that is late, spoils it, or never plays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from device.audio import Frame
from device.audio.card.loudspeaker import CHIRPS, Loudspeaker, self_test
from device.audio.card.process import CardProcess
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Samples
from tests.waiting import wait_until

HEAD = """
import os, struct, sys, time
def tell(kind, body):
    os.write(1, kind + struct.pack("<I", len(body)) + body)
sys.stdin.buffer.readline()
"""


class Room:
    """A loudspeaker and the microphone that hears it, by the microphone's own time."""

    def __init__(self, late_s: float = 0.0, heard_late_s: float = 0.0, spoils: int = 0) -> None:
        """The sound begins `late_s` after it was asked for, and the microphone gives everything
        `heard_late_s` later; of the first `spoils` chirps the high half is lost."""
        self._late, self._heard_late = (round(s * SAMPLE_RATE_HZ) for s in (late_s, heard_late_s))
        self._spoils = spoils
        self._air = np.random.default_rng(3).integers(-3, 4, 120 * SAMPLE_RATE_HZ).astype(np.int16)
        self._now = self._until = 0
        self.chirps = 0

    def frames(self, stop: Event) -> Iterator[Frame]:
        while not stop.is_set():
            at, self._now = self._now, self._now + FRAME_SAMPLES
            first = max(0, at - self._heard_late)
            yield Frame(self._air[first : first + FRAME_SAMPLES].copy())

    def __call__(self, samples: Samples) -> None:
        self.chirps += 1
        sounds = samples.copy()
        if self.chirps <= self._spoils:
            fades = np.clip(4.0 - 7.0 * np.arange(len(sounds)) / len(sounds), 0.0, 1.0)
            sounds = (sounds * fades).astype(np.int16)
        begin = self._now + self._late
        self._air[begin : begin + len(sounds)] += sounds
        self._until = begin + len(sounds)

    @property
    def busy(self) -> bool:
        return self._now < self._until


class Mute(Room):
    def __call__(self, samples: Samples) -> None:
        self.chirps += 1


@pytest.mark.parametrize(
    ("late_s", "heard_late_s"), [(0.0, 0.0), (1.5, 0.0), (8.0, 0.0), (0.0, 2.0), (6.0, 2.0)]
)
def test_a_chirp_that_comes_late_is_heard(late_s: float, heard_late_s: float) -> None:
    """On a machine where everything starts at once, a loudspeaker's process takes seconds to be ready."""
    room = Room(late_s, heard_late_s)
    assert self_test(room, room).complaint == ""
    assert room.chirps == 1


def test_a_chirp_of_which_a_part_is_lost_is_played_again() -> None:
    room = Room(spoils=1)
    assert self_test(room, room).complaint == ""
    assert room.chirps == 2


def test_one_that_is_lost_each_time_and_one_that_is_never_played_are_told() -> None:
    for room in (Room(spoils=9), Mute()):
        assert self_test(room, room).complaint
        assert room.chirps == CHIRPS


@pytest.fixture
def card(tmp_path: Path) -> Callable[[str], Callable[[], CardProcess]]:
    def made(text: str) -> Callable[[], CardProcess]:
        path = tmp_path / "child.py"
        path.write_text(HEAD + text)
        return lambda: CardProcess(path)

    return made


def test_a_loudspeaker_that_is_slow_is_not_said_to_hang(
    card: Callable[[str], Callable[[], CardProcess]], caplog: pytest.LogCaptureFixture
) -> None:
    """Six seconds to be ready and six to play: so long it took on two cores with a load of 20."""
    speaker = Loudspeaker(
        card("time.sleep(6); tell(b'o', b'{}'); sys.stdin.buffer.read(4); time.sleep(6); tell(b'p', b'')\n")
    )
    with caplog.at_level(logging.WARNING):
        speaker(np.zeros(1_600, np.int16))
        assert speaker.busy
        wait_until(lambda: not speaker.busy)
    speaker.close()
    assert caplog.text == ""


def test_a_loudspeaker_that_hangs_is_ended_within_seconds_when_the_unit_stops(
    card: Callable[[str], Callable[[], CardProcess]], caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("time.sleep(3600)\n", "tell(b'o', b'{}')\ntime.sleep(3600)\n"):
        speaker = Loudspeaker(card(text))
        with caplog.at_level(logging.WARNING):
            speaker(np.zeros(1_600, np.int16))
            time.sleep(0.5)
            began_s = time.monotonic()
            speaker.close()
        assert time.monotonic() - began_s < 10.0
    assert caplog.text == ""
