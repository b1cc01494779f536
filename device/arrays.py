"""Reads arrays from an .npz file, within a bounded size."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sync.plain_words import told


def read_arrays(data: bytes, names: Iterable[str], what: str, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays `names` of an .npz of at most `max_bytes`, packed and unpacked.

    Raises ValueError, which says that `what` cannot be read and why.
    """
    if len(data) > max_bytes:
        raise ValueError(f"{what} is too large")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as held:
            fits = sum(part.file_size for part in held.infolist()) <= max_bytes
        if fits:
            with np.load(io.BytesIO(data), allow_pickle=False) as parts:
                return {name: parts[name] for name in names}
    except Exception as err:
        # What zipfile and NumPy raise of hostile bytes is a long list.
        raise ValueError(f"{what} cannot be read ({told(err, 'it is no file of arrays')})") from err
    raise ValueError(f"{what} cannot be read (it has more than {max_bytes} bytes unpacked)")
