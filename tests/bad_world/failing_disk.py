"""A disk that fails for one process and its children, below one folder, and is well again while they run.

A full disk, a quota, a card that dies and a file server that forgot a folder differ in the call at which they
answer: some take every write and refuse when the file is put on the disk, or closed.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from enum import IntFlag
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, SYNC = 4, CLOSE = 8, READ = 16, OPEN = 32, RENAME = 64 };
static volatile unsigned *told;  /* what fails, with which number, and of which file (0: of all) */
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAILING_DISK_FILE");
    under = getenv("FAILING_DISK_UNDER");
    if (!path || !under) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    void *found = mmap(0, 3 * sizeof(unsigned), PROT_READ, MAP_SHARED, file, 0);
    if (found == MAP_FAILED) abort();
    close(file);
    told = found;
}
static int below(const char *path) { return path && !strncmp(path, under, strlen(under)); }
static int fails(int kind, int file) {
    char name[64], path[4096];
    if (!told || !(told[0] & kind)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    struct stat found;
    if (!below(path) || (told[2] && (fstat(file, &found) || found.st_ino != told[2]))) return 0;
    errno = told[1];
    return 1;
}
static int refused(int kind, const char *path) {
    if (!told || !(told[0] & kind) || !below(path)) return 0;
    errno = told[1];
    return 1;
}
#define REAL(type, name) static type (*real)(); if (!real) real = (type (*)())dlsym(RTLD_NEXT, #name)
#define OPENS(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
    if (refused(flags & O_CREAT && access(path, F_OK) ? CREATE | OPEN : OPEN, path)) return -1; \
    REAL(int, name); return real(path, flags, mode); }
#define OPENSAT(name) int name(int folder, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
    if (refused(flags & O_CREAT && access(path, F_OK) ? CREATE | OPEN : OPEN, path)) return -1; \
    REAL(int, name); return real(folder, path, flags, mode); }
OPENS(open) OPENS(open64) OPENSAT(openat) OPENSAT(openat64)
#define MOVES(name, kind, what) ssize_t name(int file, what *data, size_t size) { \
    if (fails(kind, file)) return -1; REAL(ssize_t, name); return real(file, data, size); }
MOVES(write, WRITE, const void) MOVES(read, READ, void)
#define MOVES_AT(name, kind, what) ssize_t name(int file, what *data, size_t size, off_t at) { \
    if (fails(kind, file)) return -1; REAL(ssize_t, name); return real(file, data, size, at); }
MOVES_AT(pwrite, WRITE, const void) MOVES_AT(pwrite64, WRITE, const void)
MOVES_AT(pread, READ, void) MOVES_AT(pread64, READ, void)
int fsync(int file) { if (fails(SYNC, file)) return -1; REAL(int, fsync); return real(file); }
int fdatasync(int file) { if (fails(SYNC, file)) return -1; REAL(int, fdatasync); return real(file); }
int close(int file) {  /* the file is closed all the same, as Linux does it */
    int wrong = fails(CLOSE, file) && (fcntl(file, F_GETFL) & O_ACCMODE) != O_RDONLY, number = errno;
    REAL(int, close);
    int code = real(file);
    if (wrong) { errno = number; return -1; }
    return code;
}
int rename(const char *old, const char *new) {
    if (refused(RENAME, new)) return -1;
    REAL(int, rename); return real(old, new);
}
int mkdir(const char *path, mode_t mode) {
    if (refused(CREATE, path)) return -1;
    REAL(int, mkdir); return real(path, mode);
}
"""


class Fails(IntFlag):
    """At which call a disk answers."""

    NOTHING = 0
    CREATE = 1
    WRITE = 2
    SYNC = 4
    CLOSE = 8
    READ = 16
    OPEN = 32
    RENAME = 64


class FailingDisk:
    """Everything below `under`, for processes that `environment` is given to."""

    def __init__(self, folder: Path, under: Path) -> None:
        """`under` is how the paths begin that are on it."""
        self._under, self._library = under, folder / "disk.so"
        self.mark = folder / "disk-fails"
        self.fail(Fails.NOTHING)
        source = folder / "disk.c"
        source.write_text(SHIM)
        command = ["cc", "-O1", "-w", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(command, check=True)

    def environment(self) -> dict[str, str]:
        """What a process must be started with to meet it."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAILING_DISK_FILE": str(self.mark),
            "FAILING_DISK_UNDER": str(self._under),
        }

    def fail(self, at: Fails, number: int = errno.EIO, inode: int = 0) -> None:
        """As the function `fail`."""
        fail(self.mark, at, number, inode)


def fail(mark: Path, at: Fails, number: int = errno.EIO, inode: int = 0) -> None:
    """From now on these calls fail with this number of the system; with an inode, on that file alone."""
    with mark.open("r+b" if mark.exists() else "wb") as file:
        file.write(b"".join(int(one).to_bytes(4, sys.byteorder) for one in (at, number, inode)))
