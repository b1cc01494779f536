"""The errors of the context checks."""

from __future__ import annotations

from device.errors import DeviceError


class LivenessError(DeviceError):
    """A piece of evidence cannot be had, so the door stays locked."""


class MemoryRollbackError(LivenessError):
    """The memory of utterances is gone, changed or older than it was: somebody may have put a copy back."""
