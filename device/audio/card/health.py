"""Finds what is wrong with the sound of a microphone that delivers samples. Pure; one object a stream."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from device.audio.card.drift import LOOK_EVERY_S, TOLERANCE, Drift
from device.audio.spoiled.lost_blocks import LOOK_S, replaced

CLIPPED_LEVEL = 32_700
WINDOW_S = 1.0
STUCK_S = 5.0
"""No microphone gives the very same number for so long; a gate or a mute switch may for less."""
CLIPPED_FRACTION = 0.05
CLIPPED_WINDOWS = 3
OFFSET_LEVEL = 3_000.0
"""A tenth of full scale."""
INVERTED = -0.9
"""Correlation of the two channels below which one is wired the wrong way round."""
LOUD_RMS = 100.0
"""Below this, two channels hold noise of their own, and say nothing about each other."""
WEAK = 10.0
"""So many times less than the other channel: nobody speaks into this one."""
FASTEST, WAITING_S = 2.0, 5.0
"""More than what a slow machine may find waiting."""
SLOWEST, DRIP_AFTER_S = 0.25, 4.0
LONGEST_WAIT_S = 1.0
"""For one block; what is longer is a unit that was held up, or a device that fell silent."""

Block = npt.NDArray[np.int16]
"""Shape (samples, channels)."""


class Trouble(StrEnum):
    """Words of the audit vocabulary."""

    STUCK = "microphone_stuck"
    DEAD_CHANNEL = "microphone_dead_channel"
    CLIPPED = "microphone_clipped"
    OFFSET = "microphone_offset"
    INVERTED = "microphone_inverted"
    RATE = "microphone_rate"


class Health:
    """Feed it every block; it names each trouble once."""

    def __init__(self, rate_hz: int, channels: int, channel: int = 0) -> None:
        """`channel` is the one that was heard before."""
        self._rate_hz = rate_hz
        self._told: set[Trouble] = set()
        self._window: list[Block] = []
        self._held = 0
        self._still_s = np.zeros(channels)
        self._value: Block | None = None
        self._clipped_windows = 0
        self._drift = Drift(rate_hz)
        self.drifted = 0
        """How many samples the device gave too few or too many, where that was found with the last block."""
        self.channel = min(channel, channels - 1)
        """Which one to hear. Channels are never added: one wired the wrong way round cancels the other."""

    def feed(self, block: Block, now_s: float, *, lost: bool = False) -> Iterator[Trouble]:
        """`now_s` is when the block arrived, of a monotonic clock; `lost`: samples were dropped before it."""
        yield from self._fresh(self._rate(block, now_s, lost=lost))
        self._window.append(block)
        self._held += len(block)
        if self._held >= WINDOW_S * self._rate_hz:
            window = np.concatenate(self._window)
            self._window, self._held = [], 0
            yield from self._fresh(self._look(window))
            window[:] = 0

    def _fresh(self, found: Iterator[Trouble]) -> Iterator[Trouble]:
        for trouble in found:
            if trouble not in self._told:
                self._told.add(trouble)
                yield trouble

    def _rate(self, block: Block, now_s: float, *, lost: bool) -> Iterator[Trouble]:
        share, self.drifted = self._drift.feed(len(block), now_s, lost=lost), 0
        if share is None:
            return
        if abs(share) > TOLERANCE:
            self.drifted = max(1, round(abs(share) * LOOK_EVERY_S * self._rate_hz))
            yield Trouble.RATE

    def _look(self, window: Block) -> Iterator[Trouble]:
        seconds = len(window) / self._rate_hz
        still = np.all(window == window[:1], axis=0)
        if self._value is not None:
            still &= window[0] == self._value
        self._value = window[-1].copy()
        self._still_s = np.where(still, self._still_s + seconds, 0.0)
        dead = self._still_s >= STUCK_S
        if dead.all():
            yield Trouble.STUCK
        elif dead.any():
            if dead[self.channel]:
                self.channel = int(np.flatnonzero(~dead)[0])
            yield Trouble.DEAD_CHANNEL
        alive = window.shape[1] == 2 and not dead.any()
        both = window.astype(np.float64) - window.mean(axis=0)
        rms = np.sqrt(np.mean(np.square(both), axis=0))
        if alive and rms[1 - self.channel] > max(LOUD_RMS, WEAK * rms[self.channel]):
            self.channel = 1 - self.channel
            yield Trouble.DEAD_CHANNEL
        elif alive and rms.min() > LOUD_RMS and np.mean(both[:, 0] * both[:, 1]) / rms.prod() < INVERTED:
            yield Trouble.INVERTED
        both[:] = 0.0
        heard = window[:, self.channel].astype(np.float64)
        clipped = float(np.mean(np.abs(heard) >= CLIPPED_LEVEL))
        self._clipped_windows = self._clipped_windows + 1 if clipped > CLIPPED_FRACTION else 0
        if self._clipped_windows >= CLIPPED_WINDOWS:
            yield Trouble.CLIPPED
        if abs(heard.mean()) > OFFSET_LEVEL and not dead[self.channel]:
            yield Trouble.OFFSET
        heard[:] = 0.0


class Pace:
    """Tells a device whose sound does not come in time: a driver that only drips, or one that never waits."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._began_s: float | None = None
        self._waited_s = 0.0
        self._heard_s = 0.0
        self._whole = True

    def feed(self, samples: int, now_s: float, waited_s: float, *, lost: bool) -> str:
        """What is wrong, in words; empty when nothing is. For these samples we waited `waited_s`: what lies
        there because a busy unit has not come to it says nothing about the device. `lost`: samples were
        dropped before these, so that nothing can be said of the device's own pace."""
        if self._began_s is None:
            self._began_s = now_s
            return ""
        self._heard_s += samples / self._rate_hz
        self._whole = self._whole and not lost
        self._waited_s += min(waited_s, LONGEST_WAIT_S)
        if self._heard_s > FASTEST * (now_s - self._began_s) + WAITING_S:
            return "it gives sound faster than time passes, so it is no microphone; name another device"
        if self._whole and self._waited_s > DRIP_AFTER_S and self._heard_s < SLOWEST * self._waited_s:
            return "hardly any of its sound arrives; try another socket or cable"
        return ""


class Gaps:
    """Finds blocks that were lost before they reached us, by what was put in their place."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._kept = int(LOOK_S * rate_hz)
        self._before: Block = np.zeros(0, np.int16)

    def feed(self, heard: Block) -> int:
        """How many samples were lost in gaps that end in `heard`, int16 of shape (n,)."""
        joined = np.concatenate((self._before, heard))
        # What ended with the last sample could not be seen to end.
        old = len(self._before) - 1
        lost = sum(end - begin for begin, end in replaced(joined, self._rate_hz) if end >= old)
        self._before[:] = 0
        self._before = joined[-self._kept :].copy()
        joined[:] = 0
        return lost
