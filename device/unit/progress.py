"""Tells the service manager and the operator whether this unit can decide.

The door's loop reports each piece of work: a frame processed, a wait for a badge that ended on time. A report
first looks at the other threads. When one has stood still, it does not feed the watchdog, and systemd
restarts the unit. A missing microphone is only shown as a state: a restart would bring none.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from threading import Event

from device.access.decision import Decision
from device.audio import AudioDeviceLostError, AudioError, AudioSource, Frame
from device.audio.utterance import wipe
from device.unit.metrics import DoorMetrics
from sync.service.service_manager import ServiceManager

WAIT_S = 5.0
"""The loop reports at least this often while nobody comes."""
LISTEN_AGAIN_S = 30.0
"""How often a missing microphone is looked for while nobody comes."""

Looks = Callable[[], str]
"""Says what is wrong with one part; empty when nothing is."""

log = logging.getLogger(__name__)


def restart() -> None:
    """End this process in order; its supervisor starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


class Progress:
    """Called by the loop that serves the door, and by nothing else."""

    def __init__(
        self,
        manager: ServiceManager,
        stuck: Mapping[str, Looks],
        troubles: Mapping[str, Looks] | None = None,
        metrics: DoorMetrics | None = None,
        now_s: Callable[[], float] = time.monotonic,
        gone_deaf: Callable[[], None] = lambda: None,
    ) -> None:
        """`stuck` tells which parts that a decision needs stand still, `troubles` what only a person can
        mend. `gone_deaf` is called each time the microphone goes.
        """
        self._manager = manager
        self._stuck = tuple(stuck.values())
        self._troubles = tuple((troubles or {}).values())
        self._metrics = metrics
        self._now_s = now_s
        self._gone_deaf = gone_deaf
        self._standing = ""
        self._deaf = ""
        self._decisions = 0
        self._microphone: AudioSource | None = None
        self._listened_s = -math.inf

    def ready(self) -> None:
        """Report that every part is open."""
        self._manager.ready(self._text())

    def __call__(self) -> None:
        """Report a piece of the loop's work."""
        found = _told(self._stuck)
        if found:
            if found != self._standing:
                log.error("no decision is possible: %s; the watchdog restarts the unit", found)
            self._standing = found
            self._manager.status(f"no decision is possible: {found}")
            return
        self._standing = ""
        self._manager.status(self._text())
        self._manager.progress()
        if self._metrics is not None:
            self._metrics.deaf, self._metrics.troubled = bool(self._deaf), bool(_told(self._troubles))
            self._metrics()

    def decided(self, decision: Decision) -> None:
        """Report that a decision was carried out."""
        self._decisions += 1
        if self._metrics is not None:
            self._metrics.decided(decision)
        self()

    def heard(self, frame: Frame) -> None:
        """Count a frame from the microphone."""
        self.deaf("")
        if self._metrics is not None:
            self._metrics.frames += 1
            self._metrics.lost_samples += frame.lost_samples

    def stopping(self) -> None:
        self._manager.stopping()

    def waiting(self) -> None:
        """Report a wait; opens a microphone that was not tried yet, or is gone, for one frame."""
        due = self._listened_s == -math.inf or (
            self._deaf and self._now_s() - self._listened_s >= LISTEN_AGAIN_S
        )
        if self._microphone is not None and due:
            self._listened_s = self._now_s()
            try:
                with closing(self._microphone.frames(Event())) as frames:  # type: ignore[type-var]
                    wipe(next(frames).samples)
            except AudioError as err:
                self.deaf(str(err))
        self()

    def hearing(self, source: AudioSource, *, microphone: bool) -> AudioSource:
        """`source`, which reports each frame once its reader asks for the next. A `microphone` may be opened
        at any time to test it.
        """
        heard = _Heard(source, self)
        if microphone:
            self._microphone = heard
        return heard

    def deaf(self, why: str) -> None:
        """Note why nothing can be heard; empty when sound is heard again."""
        if bool(why) != bool(self._deaf):
            log.warning("%s", why or "the microphone is heard again")
            if why:
                self._gone_deaf()
        self._deaf = why

    def _text(self) -> str:
        deaf, troubles = self._deaf, _told(self._troubles)
        told = (deaf and f"the door stays locked: {deaf}", troubles and f"needs attention: {troubles}")
        return "; ".join(filter(None, told)) or f"ready; {self._decisions} decisions since the start"


class _Heard:
    """An AudioSource that reports processed frames, and a lost device."""

    def __init__(self, source: AudioSource, progress: Progress) -> None:
        self._source = source
        self._progress = progress

    def frames(self, stop: Event) -> Iterator[Frame]:
        try:
            for frame in self._source.frames(stop):
                self._progress.heard(frame)
                yield frame
                self._progress()
        except AudioDeviceLostError as err:
            self._progress.deaf(str(err))
            raise
        finally:
            self._progress()


def _told(looks: Iterable[Looks]) -> str:
    return "; ".join(filter(None, (look() for look in looks)))
