"""Two bounded buffers of samples, both allocated once and overwritten when their content is done with."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Samples, wipe


class SampleHistory:
    """The latest `capacity` samples of a stream, addressed by their position since the last wipe."""

    def __init__(self, capacity: int) -> None:
        self._ring: Samples = np.zeros(capacity, dtype=np.int16)
        self.end = 0
        """Position after the newest sample."""

    @property
    def begin(self) -> int:
        """Position of the oldest sample still held."""
        return max(0, self.end - len(self._ring))

    def append(self, samples: Samples) -> None:
        """Samples: at most `capacity` of them."""
        at = self.end % len(self._ring)
        head = min(len(samples), len(self._ring) - at)
        self._ring[at : at + head] = samples[:head]
        self._ring[: len(samples) - head] = samples[head:]
        self.end += len(samples)

    def copy(self, begin: int) -> Samples:
        """A copy of everything from position `begin` on. It must still be held."""
        if not self.begin <= begin <= self.end:
            raise IndexError(f"position {begin} is not in [{self.begin}, {self.end}]")
        at, count = begin % len(self._ring), self.end - begin
        return np.concatenate(
            (self._ring[at : at + count], self._ring[: max(0, at + count - len(self._ring))])
        )

    def wipe(self) -> None:
        """Overwrite everything and start again at position 0."""
        wipe(self._ring)
        self.end = 0


class SampleQueue:
    """Passes samples from the sound card's thread, which must never wait, to ours. When it is full all
    that waits is dropped, counted and overwritten: the whole gap lies just before the next sample."""

    def __init__(self, capacity: int) -> None:
        self._samples: Samples = np.zeros(capacity, dtype=np.int16)
        self._count = 0
        self._lost = 0
        self.closed = False
        """Whether nothing more will come."""
        self._ready = threading.Condition()

    def put(self, samples: npt.NDArray[np.int16], lost: int = 0) -> None:
        """Add what was heard after `lost` samples that were not. Never blocks for longer than a copy."""
        with self._ready:
            if lost or self._count + len(samples) > len(self._samples):
                self._lost += self._count + lost
                wipe(self._samples)
                self._count = 0
            if len(samples) > len(self._samples):
                self._lost += len(samples)
            else:
                self._samples[self._count : self._count + len(samples)] = samples
                self._count += len(samples)
            self._ready.notify()

    def close(self) -> None:
        """Nothing more will come; readers that wait are woken."""
        with self._ready:
            self.closed = True
            self._ready.notify()

    def wipe(self) -> None:
        """Drop and overwrite what waits."""
        with self._ready:
            wipe(self._samples)
            self._count = 0

    def take(self, timeout_s: float) -> tuple[Samples, int] | None:
        """Everything that waits and how many samples were lost before it; None when nothing came in time."""
        with self._ready:
            self._ready.wait_for(lambda: self._count or self.closed, timeout_s)
            if not self._count:
                return None
            taken, lost = self._samples[: self._count].copy(), self._lost
            wipe(self._samples)
            self._count = self._lost = 0
            return taken, lost
