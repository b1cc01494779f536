"""Commands to units: signed, counted, kept, and sent until answered or expired."""

from sync.registry.commands.issued import answered, due, issue, issue_all, issue_in, known, listed

__all__ = ["answered", "due", "issue", "issue_all", "issue_in", "known", "listed"]
