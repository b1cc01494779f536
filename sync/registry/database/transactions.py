"""The registry's database as all its parts use it: a transaction, a consistent view, an upsert."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum, unique
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from sync.registry.database.engine import StoreError, of_database, open_engine


@unique
class Turn(IntEnum):
    """What one transaction at a time does, of all processes of a registry. The numbers are PostgreSQL's."""

    PARTITION = 7216354
    JOURNAL = 7216355
    DASHBOARD = 7216356
    INCIDENTS = 7216357
    HOLDS = 7216358
    CAMPAIGNS = 7216359
    VISITS = 7216360
    DOCUMENTS = 7216361
    RECOVERY = 7216362
    CLAIMS = 7216363


def take_turn(db: Connection, turn: Turn) -> None:
    """Wait until no other transaction has this turn; it ends with the transaction. SQLite has one writer."""
    if db.dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(turn.value)))


def insert(db: Connection, table: sa.Table, **values: Any) -> int:
    """Insert one row; returns its `id`."""
    return int(db.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one())


class Database:
    """Share one between threads; every process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        """For what listens to statements and commits."""
        self._reader = engine.execution_options(reading=True)
        if engine.dialect.name == "postgresql":
            # One snapshot for all queries of a transaction, as SQLite gives it: a log grows meanwhile.
            self._reader = self._reader.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        self._partitions: set[int] = set()
        self._postgresql = engine.dialect.name == "postgresql"

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """Raises StoreError; unless `create`, also where there is no registry yet."""
        return cls(open_engine(url, create=create))

    @property
    def partitioned(self) -> bool:
        """Whether months are tables of their own (PostgreSQL)."""
        return self._postgresql

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One commit, or nothing. Raises StoreError when the database fails."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as err:
            # A partition made in a transaction that failed does not exist.
            self._partitions.clear()
            raise StoreError(f"the registry's database failed: {of_database(err)}") from err
        except BaseException:
            self._partitions.clear()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view that keeps no writer waiting. Raises StoreError when the database fails."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except SQLAlchemyError as err:
            raise StoreError(f"the registry's database failed: {of_database(err)}") from err

    def upsert(self, table: sa.Table) -> Any:
        """An INSERT of this dialect, which knows ON CONFLICT."""
        return postgresql.insert(table) if self._postgresql else sqlite.insert(table)

    def forget_partitions(self) -> None:
        """After partitions were dropped, look before the next insert."""
        self._partitions.clear()
