"""The registry's memory: SQLAlchemy on SQLite or PostgreSQL. A method is a transaction, or part of one."""

from __future__ import annotations

from sync.registry.database.alarm_rows import AlarmRows, day_of
from sync.registry.database.engine import StoreError
from sync.registry.database.event_rows import EVENT_COLUMNS, EventRows, month_of, name_of
from sync.registry.database.unit_rows import UnitRow, UnitRows

__all__ = ["EVENT_COLUMNS", "Store", "StoreError", "UnitRow", "day_of", "month_of", "name_of"]


class Store(UnitRows, EventRows, AlarmRows):
    """Everything that the registry keeps; `sync.registry.database.transactions` opens it."""
