"""A wall clock that lies to one process and its children, while running time goes on as it is."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    const char *told = getenv("CLOCK_IS_OFF_BY_S");
    return told ? atol(told) : 0;
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


def environment(folder: Path, clock: str) -> dict[str, str]:
    """What makes a process believe that it is `clock`, ISO 8601 in UTC, when it starts."""
    library = folder / "clock.so"
    if not library.exists():
        source = folder / "clock.c"
        source.write_text(SHIM)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    off = datetime.fromisoformat(clock).replace(tzinfo=UTC) - datetime.now(UTC)
    return {"LD_PRELOAD": str(library), "CLOCK_IS_OFF_BY_S": str(round(off.total_seconds()))}
