"""A new log for a unit whose own cannot go on: one person asks, another approves."""

from sync.registry.readmission.requests import REPLACE, approve, ask, listed

__all__ = ["REPLACE", "approve", "ask", "listed"]
