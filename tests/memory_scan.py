"""A command of ours in a process that, when asked, looks for bytes in all of its own memory.

`python -m tests.memory_scan ARGUMENTS...` is `ostiary ARGUMENTS...`. Each line on standard input holds masked
needles in hexadecimal, one word each; the answer on standard output is how often each of them is in memory.
They stay masked here, or the search would find itself.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import suppress
from pathlib import Path

MASK = 0x5A
_PIECE = 1 << 22
_SYSTEMD = Path(__file__).parents[1] / "systemd"
_ALLOCATION = {"PYTHONMALLOC", "GLIBC_TUNABLES"}


def as_the_service(name: str) -> dict[str, str]:
    """How `systemd/ostiary-NAME.service` allocates memory: what is freed is overwritten, small ones too."""
    lines = (_SYSTEMD / f"ostiary-{name}.service").read_text().splitlines()
    words = [word for line in lines for word in line.removeprefix("Environment=").split()]
    found = {name: value for name, _, value in (word.partition("=") for word in words) if name in _ALLOCATION}
    assert set(found) == _ALLOCATION
    return found


def masked(needle: bytes) -> str:
    """`needle` as a search is asked for it."""
    return bytes(byte ^ MASK for byte in needle).hex()


def _regions(pid: int | str = "self") -> list[tuple[int, int]]:
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split()
        if rights.startswith("rw") and not (name and name[0].startswith(("[v", "/dev"))):
            start, stop = (int(part, 16) for part in span.split("-"))
            found.append((start, stop))
    return found


def counts(needles: list[bytes]) -> list[int]:
    """How often each of the masked `needles` is in the memory that this process may write."""
    import numpy as np

    found = [0] * len(needles)
    most = max(map(len, needles))
    piece = bytearray(_PIECE + most)
    numbers = np.frombuffer(piece, np.uint8)
    for start, stop in _regions():
        for at in range(start, stop, _PIECE):
            size = min(stop - at, _PIECE + most - 1)
            ctypes.memmove(numbers.ctypes.data, at, size)
            numbers[:size] ^= MASK
            for number, needle in enumerate(needles):
                found[number] += piece.count(needle, 0, size)
            # Where the needles themselves lie, they are plain in here: the next piece would find a copy.
            numbers[:] = 0
    return found


def counts_in(pid: int, needles: list[bytes]) -> list[int]:
    """How often each of `needles`, plain ones, is in the memory that process `pid` may write."""
    found = [0] * len(needles)
    most = max(map(len, needles))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, stop in _regions(pid):
            for at in range(start, stop, _PIECE):
                memory.seek(at)
                with suppress(OSError):  # a page that went away meanwhile
                    text = memory.read(min(stop - at, _PIECE + most - 1))
                    for number, needle in enumerate(needles):
                        found[number] += text.count(needle)
    return found


def _serve() -> None:
    for line in sys.stdin:
        found = counts([bytes.fromhex(word) for word in line.split()])
        print(*found, flush=True)


def main() -> None:
    from device.cli import main as ostiary

    threading.Thread(target=_serve, daemon=True).start()
    ostiary()


if __name__ == "__main__":
    main()
