"""Files that are part of the program: weights, word lists and texts that lie beside the code."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TypeVar

from device.errors import DeviceError
from sync.plain_words import what_and_why

T = TypeVar("T")


def own_file(package: str, name: str, read: Callable[[bytes], T]) -> T:
    """What `read` makes of the file `name` beside the code of `package`.

    Raises DeviceError, which says what to do, when the file is missing or `read` raises ValueError, KeyError
    or TypeError.
    """
    try:
        return read((files(package) / name).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DeviceError(
            f"{package.replace('.', '/')}/{name}, a part of Ostiary itself, is missing or damaged; "
            f"install this version again ({type(err).__name__}: {what_and_why(err)})"
        ) from err
