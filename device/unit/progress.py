"""Whether this unit can decide, as its service manager and its operator see it.

The loop at the door reports each thing it does: a frame of sound processed, a wait for the next badge that
ended on time. Each report looks at the other threads first. When one of them has stood still, the watchdog is
told nothing, and systemd starts the unit again. A microphone that is not there is different: a restart brings
none, so that is a state with a text of its own, and the watchdog is fed.
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
"""How often a microphone that is gone is looked for while nobody comes."""

Looks = Callable[[], str]
"""What is wrong with one part, in words; empty when nothing is."""

log = logging.getLogger(__name__)


def restart() -> None:
    """End this process in order; its supervisor starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


class Progress:
    """Call it from the loop that serves the door, and from nowhere else."""

    def __init__(
        self,
        manager: ServiceManager,
        stuck: Mapping[str, Looks],
        troubles: Mapping[str, Looks] | None = None,
        metrics: DoorMetrics | None = None,
        now_s: Callable[[], float] = time.monotonic,
        gone_deaf: Callable[[], None] = lambda: None,
    ) -> None:
        """`stuck` says of each part that a decision needs whether it stands still. `troubles` says what a
        person must mend and no restart would. `gone_deaf` is called once each time the microphone goes."""
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
        """Every part is open: from now on a claim leads to a decision."""
        self._manager.ready(self._text())

    def __call__(self) -> None:
        """The loop has done a piece of its work."""
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
        """A decision was carried out."""
        self._decisions += 1
        if self._metrics is not None:
            self._metrics.decided(decision)
        self()

    def heard(self, frame: Frame) -> None:
        """A frame came from the microphone."""
        self.deaf("")
        if self._metrics is not None:
            self._metrics.frames += 1
            self._metrics.lost_samples += frame.lost_samples

    def stopping(self) -> None:
        self._manager.stopping()

    def waiting(self) -> None:
        """Nobody is at the door. A microphone that was not tried yet, or is gone, is opened for one frame."""
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
        """`source`, reporting each frame once its reader asks for the next one.

        `microphone`: it can be opened at any time, and then something is heard.
        """
        heard = _Heard(source, self)
        if microphone:
            self._microphone = heard
        return heard

    def deaf(self, why: str) -> None:
        """Nothing can be heard, and why; empty when something is heard again."""
        if bool(why) != bool(self._deaf):
            log.warning("%s", why or "the microphone is heard again")
            if why:
                self._gone_deaf()
        self._deaf = why

    def _text(self) -> str:
        told = "; ".join(filter(None, (self._deaf, _told(self._troubles))))
        if told:
            return f"the door stays locked: {told}"
        return f"ready; {self._decisions} decisions since the start"


class _Heard:
    """An AudioSource that reports the frames which were processed, and the device that is gone."""

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
