"""What the dashboard refuses, and how the page says so."""

from __future__ import annotations

from sync.errors import SyncError


class DashboardError(SyncError):
    """One line for the person at the command line; a page shows only those that are `RefusedError`."""


class RefusedError(DashboardError):
    """The request cannot be served: `status` is the HTTP status.

    `message` is a text of the page, with `{0}`, `{1}` where `values` belong, so that the page can say it in
    the language of the person who reads it.
    """

    def __init__(self, message: str, status: int = 400, *values: object) -> None:
        super().__init__(message.format(*values) if values else message)
        self.message = message
        self.values = values
        self.status = status


def not_found() -> RefusedError:
    """One answer for what does not exist and for what this account may not see."""
    return RefusedError("There is nothing here that your account may see.", 404)
