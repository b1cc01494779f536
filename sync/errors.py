"""The base of every error that `sync` raises on purpose."""

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""What taking a JSON or TOML document apart may raise that somebody else wrote: `except MALFORMED`."""


class SyncError(Exception):
    """Something in `sync` failed. The message is one line and says what to do about it."""


class MalformedError(SyncError):
    """Bytes from outside are not what they claim to be. Refuse them, count them, go on."""


class ProofError(SyncError):
    """A signature, chain or Merkle proof does not hold: somebody changed something."""
