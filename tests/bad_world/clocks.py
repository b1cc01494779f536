"""A wall clock that lies to one process and its children, while running time goes on as it is.

It lies by a fixed time, or by what stands in a file, which somebody may change while the process runs.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    static volatile long *shared;
    const char *path = getenv("CLOCK_IS_OFF_BY_FILE"), *told = getenv("CLOCK_IS_OFF_BY_S");
    if (path && !shared) {
        int file = open(path, O_RDONLY);
        void *found = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (found == MAP_FAILED) abort();
        close(file);
        shared = found;
    }
    return shared ? *shared : told ? atol(told) : 0;
}
int clock_gettime(clockid_t which, struct timespec *now) {
    int code = (int)syscall(SYS_clock_gettime, which, now);
    if (!code && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
    return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (out) *out = found.tv_sec;
    return found.tv_sec;
}
"""
"""libfaketime turns waits, which are by running time, into errors; this turns the wall clock alone."""


class MovableClock:
    """A wall clock of processes that `environment` is given to, set while they run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "clock"
        self.set_off(0)

    def environment(self) -> dict[str, str]:
        """What a process must be started with to believe it."""
        return {"LD_PRELOAD": str(_library(self._folder)), "CLOCK_IS_OFF_BY_FILE": str(self._file)}

    def set_off(self, seconds: int) -> None:
        """How far ahead it is from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def environment(folder: Path, clock: str) -> dict[str, str]:
    """What makes a process believe that it is `clock`, ISO 8601 in UTC, when it starts."""
    off = datetime.fromisoformat(clock).replace(tzinfo=UTC) - datetime.now(UTC)
    return {"LD_PRELOAD": str(_library(folder)), "CLOCK_IS_OFF_BY_S": str(round(off.total_seconds()))}


def _library(folder: Path) -> Path:
    library = folder / "clock.so"
    if not library.exists():
        source = folder / "clock.c"
        source.write_text(SHIM)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library
