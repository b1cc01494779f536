"""Whether the disk of the state folder takes, keeps and gives what a unit writes; what memory is shared."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from device.errors import DeviceError
from sync.durable import replace_file
from sync.plain_file import plain_bytes
from sync.plain_words import remedy, why

MIN_FREE_BYTES = 256 << 20
MIN_FREE_FILES = 1000
"""Inodes: a disk without any takes no file, whatever room it has."""
MIN_SHARED_BYTES = 4 << 20
SHARED = Path("/dev/shm")  # noqa: S108 - nothing is written there


def shared_memory(folder: Path = SHARED) -> str:
    """How much memory is left for programs to share; raises DeviceError where the sound card's process ends
    for want of it: JACK's library, which PortAudio asks, keeps a database there. Without any it does not."""
    if not os.access(folder, os.W_OK):
        return f"there is none in {folder}, and none is needed"
    free = shutil.disk_usage(folder).free
    if free < MIN_SHARED_BYTES:
        raise DeviceError(
            f"only {free >> 20} MiB free in {folder}; the sound card's process may end for want of it"
        )
    return f"{free >> 20} MiB free in {folder}"


def disk(folder: Path) -> str:
    """How much is free below `folder`; raises DeviceError for what keeps the unit from writing there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise DeviceError(f"{folder} cannot be written")
    free, found = shutil.disk_usage(folder).free, os.statvfs(folder)
    if found.f_files and found.f_favail < MIN_FREE_FILES:
        raise DeviceError(f"only {found.f_favail} more files fit into {folder}, however small")
    if free < MIN_FREE_BYTES:
        raise DeviceError(f"only {free >> 20} MiB free in {folder}")
    _try_disk(folder / ".doctor")
    return f"{free >> 20} MiB free in {folder}"


def _try_disk(trial: Path) -> None:
    """Write, keep and read once: a quota or a card that fails shows in no figure of free space."""
    try:
        replace_file(trial, bytes(4096))
        plain_bytes(trial)
    except OSError as err:
        todo = f"; {found}" if (found := remedy(err)) else ""
        raise DeviceError(f"{trial.parent} cannot be used: {why(err)}{todo}") from err
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)
