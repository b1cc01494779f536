"""What an object keeps in memory, wherever in it: for tests that nothing of anybody is left."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_OURS = ("device.", "sync.", "quantize.")
_HOLDERS = (dict, list, tuple, set, frozenset, deque)


def arrays_kept_by(thing: object) -> list[npt.NDArray[np.generic]]:
    """Every array that `thing` reaches through the product's objects and plain containers."""
    return list(_arrays(thing))


def is_overwritten(thing: object) -> bool:
    """Whether `thing` keeps arrays, and nothing but zeros in them."""
    found = arrays_kept_by(thing)
    assert found, f"{thing!r} keeps no array; what it kept cannot be looked at"
    return not any(array.any() for array in found)


def _arrays(thing: object) -> Iterator[npt.NDArray[np.generic]]:
    seen: set[int] = set()
    ahead = [thing]
    while ahead:
        at = ahead.pop()
        if id(at) in seen or isinstance(at, type):
            continue
        seen.add(id(at))
        if isinstance(at, np.ndarray):
            yield at
        elif isinstance(at, _HOLDERS) or type(at).__module__.startswith(_OURS):
            ahead.extend(gc.get_referents(at))
