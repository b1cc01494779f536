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
    piece = np.empty(_PIECE + most, np.uint8)
    for start, stop in _regions():
        for at in range(start, stop, _PIECE):
            size = min(stop - at, _PIECE + most - 1)
            ctypes.memmove(piece.ctypes.data, at, size)
            piece[:size] ^= MASK
            text = piece[:size].tobytes()
            piece[:] = 0
            for number, needle in enumerate(needles):
                found[number] += text.count(needle)
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
