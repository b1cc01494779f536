"""The base of every error that `sync` raises on purpose."""


class SyncError(Exception):
    """Something in `sync` failed. The message is one line and says what to do about it."""
