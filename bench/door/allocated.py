"""What the C library's allocator says is in use: memory that Python's own figures do not show."""

from __future__ import annotations

import ctypes


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2, mallinfo(3): hblkhd is the fifth, uordblks the eighth."""

    _fields_ = tuple((f"figure_{number}", ctypes.c_size_t) for number in range(10))


def allocated_bytes() -> int:
    """Bytes in use, or kept for a thread that gave them back; 0 where the C library (not GNU's) tells
    none."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Mallinfo2
    found = ask()
    return int(found.figure_4 + found.figure_7)
