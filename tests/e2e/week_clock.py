"""A week in minutes: the clocks of some processes jump ahead, running time too, and their waits with them.

A thread that waits with a limit (a lock, a condition, a sleep) looks every 15 ms whether that limit has come
by the clock that jumps. Waits for sockets and pipes keep to real time: those have something to read all week.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from device.secure_store.hardware.swtpm import SwTpm

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 15000000L
#define LONGEST_S 1000000000L

static long ahead(void) {
    static volatile long *shared;
    if (!shared) {
        int file = open(getenv("CLOCKS_AHEAD_BY_FILE"), O_RDONLY);
        void *found = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (found == MAP_FAILED) abort();
        close(file);
        shared = found;
    }
    return *shared;
}
static int jumps(clockid_t which) {
    static int wall_only = -1;
    if (wall_only < 0) wall_only = getenv("CLOCKS_AHEAD_WALL_ONLY") != 0;
    switch (which) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: return 1;
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_COARSE: case CLOCK_MONOTONIC_RAW: case CLOCK_BOOTTIME:
        return !wall_only;
    default: return 0;
    }
}
static void really(clockid_t which, struct timespec *now) { syscall(SYS_clock_gettime, which, now); }
int clock_gettime(clockid_t which, struct timespec *now) {
    int code = (int)syscall(SYS_clock_gettime, which, now);
    if (!code && jumps(which)) now->tv_sec += ahead();
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
static int before(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}
/* Until when to wait really, at most a slice: `until` is by the clock that jumps. 0: its time has come. */
static int slice(clockid_t which, const struct timespec *until, struct timespec *end) {
    struct timespec now, asked = *until;
    really(which, &now);
    if (jumps(which)) asked.tv_sec -= ahead();
    *end = asked;
    if (!before(&now, &asked)) return 0;
    now.tv_nsec += SLICE_NS;
    if (now.tv_nsec >= 1000000000L) { now.tv_nsec -= 1000000000L; now.tv_sec++; }
    if (before(&now, &asked)) *end = now;
    return 1;
}
static void *next(const char *name) {
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}
#define NEXT(name) \
    static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)next(#name)

/* One whose limit is past is asked once more, with that limit: it may be free all the same. */
int sem_clockwait(sem_t *sem, clockid_t which, const struct timespec *until) {
    NEXT(sem_clockwait);
    struct timespec end;
    for (;;) {
        int left = slice(which, until, &end), code = real(sem, which, &end);
        if (!code || errno != ETIMEDOUT || !left) return code;
    }
}
int sem_timedwait(sem_t *sem, const struct timespec *until) {
    return sem_clockwait(sem, CLOCK_REALTIME, until);
}
int pthread_cond_clockwait(
    pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t which, const struct timespec *until) {
    NEXT(pthread_cond_clockwait);
    struct timespec end;
    for (;;) {
        int left = slice(which, until, &end), code = real(cond, mutex, which, &end);
        if (code != ETIMEDOUT || !left) return code;
    }
}
/* The condition knows its clock; the size of the number tells it, too. */
int pthread_cond_timedwait(
    pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    NEXT(pthread_cond_timedwait);
    clockid_t which = until->tv_sec > LONGEST_S ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    struct timespec end;
    for (;;) {
        int left = slice(which, until, &end), code = real(cond, mutex, &end);
        if (code != ETIMEDOUT || !left) return code;
    }
}
int clock_nanosleep(clockid_t which, int flags, const struct timespec *until, struct timespec *rest) {
    NEXT(clock_nanosleep);
    struct timespec end;
    if (!(flags & TIMER_ABSTIME)) return real(which, flags, until, rest);
    for (;;) {
        int left = slice(which, until, &end), code = left ? real(which, flags, &end, rest) : 0;
        if (code || !left) return code;
    }
}
"""


class JumpingClocks:
    """Wall clock and running time of the processes that `environment` is given to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "clocks"
        self._library = folder / "clocks.so"
        source = folder / "clocks.c"
        source.write_text(SHIM)
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"], check=True
        )
        self.ahead_s = 0
        self._file.write_bytes(bytes(8))

    def environment(self, *, wall_only: bool = False) -> dict[str, str]:
        """What a process must be started with; `wall_only` leaves its running time as it is."""
        only = {"CLOCKS_AHEAD_WALL_ONLY": "1"} if wall_only else {}
        return {"LD_PRELOAD": str(self._library), "CLOCKS_AHEAD_BY_FILE": str(self._file), **only}

    def go_on(self, seconds: int) -> None:
        """Jump ahead by so much."""
        self.ahead_s += seconds
        with self._file.open("r+b") as file:
            file.write(self.ahead_s.to_bytes(8, sys.byteorder))


@contextmanager
def nobody_at(tpms: Sequence[SwTpm], pids: Sequence[int]) -> Iterator[None]:
    """While nobody talks to a TPM, waits for it or is about to: who did would see minutes pass, and call it
    silent. On a busy machine a thread of one of `pids` may be on its way there for long; none is once all
    sleep.
    """
    with ExitStack() as parts:
        names = [hashlib.sha256(tpm.tcti.encode()).hexdigest()[:16] for tpm in tpms]  # as `TpmLink` has it
        folder, uid = Path(tempfile.gettempdir()), os.getuid()
        locks = [parts.enter_context((folder / f"ostiary-tpm-{uid}-{name}.lock").open("a")) for name in names]
        inodes = [f":{os.fstat(lock.fileno()).st_ino} " for lock in locks]
        while True:
            for lock in locks:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if all(map(_sleeps, pids)) and not _waited_for(inodes):
                break
            for lock in locks:
                fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.005)
        yield


def _waited_for(inodes: Sequence[str]) -> bool:
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(inode in line for line in waiting for inode in inodes)


def _sleeps(pid: int) -> bool:
    """Whether all threads of a process wait for something, and none runs, could run, or waits for a disk."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            if stat.read_text().rpartition(")")[2].split()[0] not in "SI":
                return False
    return True
