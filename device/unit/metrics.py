"""Metrics of the running door in a file for Prometheus' textfile collector: the door opens no port.

Decisions are counted only as the door shows them: opened, refused, try again, fault. A duress word leaves no
trace.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from device.access.decision import Decision
from device.feedback.sinks import stage_of
from sync.errors import SyncError
from sync.outbox import OutboxStatus
from sync.service.metrics import Figures, MetricsFile

log = logging.getLogger(__name__)

_TOLD = ("open", "refused", "retry", "fault")


class DoorMetrics:
    """Counts since the start; called from the door's loop at will."""

    def __init__(
        self,
        path: Path,
        log_status: Callable[[], OutboxStatus],
        wall_s: Callable[[], float] = time.time,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = MetricsFile(path)
        self._log_status = log_status
        self._wall_s = wall_s
        self._now_s = now_s
        self._started_s = wall_s()
        self._decisions: Counter[str] = Counter()
        self._last_s = 0.0
        self.frames = 0
        self.lost_samples = 0
        self.deaf = False
        self.troubled = False
        self._failed = False

    def decided(self, decision: Decision) -> None:
        self._decisions[str(stage_of(decision))] += 1
        self._last_s = self._wall_s()

    def __call__(self) -> None:
        """Write the file when it is due; an error is logged once."""
        if not self._file.due(self._now_s()):
            return
        try:
            self._file.write(self.figures(), self._now_s())
            self._failed = False
        except SyncError as err:
            if not self._failed:
                log.warning("%s", err)
            self._failed = True

    def figures(self) -> Figures:
        """(name, labels) -> value."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
            ("ostiary_door_decisions_total", (("shown", told),)): self._decisions[told] for told in _TOLD
        }
        plain = {
            "ostiary_door_start_time_seconds": self._started_s,
            "ostiary_door_last_decision_time_seconds": self._last_s,
            "ostiary_door_frames_total": self.frames,
            "ostiary_door_lost_samples_total": self.lost_samples,
            "ostiary_door_deaf": int(self.deaf),
            "ostiary_door_troubled": int(self.troubled),
            "ostiary_door_cpu_seconds_total": round(usage.ru_utime + usage.ru_stime, 3),
            "ostiary_door_resident_bytes": _resident_bytes(),
            "ostiary_door_written_bytes_total": usage.ru_oublock * 512,  # blocks sent to disks
        }
        try:
            plain["ostiary_outbox_pending_events"] = self._log_status().pending
        except SyncError:
            plain["ostiary_door_troubled"] = 1
        return {**found, **{(name, ()): value for name, value in plain.items()}}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
