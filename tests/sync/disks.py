"""A small disk of its own for a test, that can be filled and made read-only. Only root can make one, and not
in every container."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path


def _can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        tried = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        if subprocess.run(tried, check=False, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


CAN_MOUNT = _can_mount()


class Disk:
    """`size_mb` of memory mounted at `folder`, which must exist."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder = folder
        self._mount("-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs")

    def fill(self) -> None:
        """Leave no room on it."""
        with (self.folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(512))

    def make_room(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def read_only(self, state: bool) -> None:
        """Nobody may have a file on it open for writing when it becomes so."""
        self._mount("-o", "remount,ro" if state else "remount,rw")

    def remove(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=False)

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, self.folder], check=True)
