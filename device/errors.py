"""The base of every error that `device` raises on purpose."""

from typing import ClassVar


class DeviceError(Exception):
    """Something in `device` failed. The message is one line and says what to do about it."""

    exit_code: ClassVar[int] = 3
    """Exit code of a command that ends with it: 3 for a fault, 1 where the answer is no."""
