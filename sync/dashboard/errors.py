"""What the dashboard refuses, and how the page says so."""

from __future__ import annotations

from sync.errors import SyncError


class DashboardError(SyncError):
    """One line for the person in front of the page or the command line."""


class RefusedError(DashboardError):
    """The request cannot be served: `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def not_found() -> RefusedError:
    """The same words for what does not exist and for what this account may not see."""
    return RefusedError("There is nothing here that your account may see.", 404)
