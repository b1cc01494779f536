"""The base of every error that `device` raises on purpose."""


class DeviceError(Exception):
    """Something in `device` failed. The message is one line and says what to do about it."""
