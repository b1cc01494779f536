"""The way back for a unit whose log cannot go on: asked for by one person, approved by another."""

from sync.registry.readmission.requests import REPLACE, approve, ask, closed_logs, listed

__all__ = ["REPLACE", "approve", "ask", "closed_logs", "listed"]
