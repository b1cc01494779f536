"""Opening the registry's database: SQLite or PostgreSQL, with the schema brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sync.errors import SyncError
from sync.registry.database.fleet_changes import watch
from sync.registry.database.migrations import migrate


class StoreError(SyncError):
    """The database does not answer. Nothing was stored; wait and try again."""


class NoRegistryError(StoreError):
    """There is no registry under that address, so waiting for it is no use."""


def open_engine(url: str, *, create: bool = True) -> Engine:
    """`sqlite:///registry.db` or `postgresql://...`. The schema is brought up to date.

    Unless `create`, there must be a registry: a name with a slip makes no empty one.
    """
    try:
        address = sa.make_url(url)
        if address.get_backend_name() == "postgresql":
            engine = sa.create_engine(
                address.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=4
            )
        elif address.get_backend_name() == "sqlite":
            engine = sa.create_engine(address, connect_args={"timeout": 30.0})
            sa.event.listen(engine, "connect", _sqlite_settings)
            sa.event.listen(engine, "begin", _sqlite_begin)
        else:
            raise NoRegistryError("the registry runs on sqlite:///FILE or postgresql://...")
        if not create and not _registry_in(engine, address):
            engine.dispose()
            name = address.database or "that database"
            raise NoRegistryError(f"there is no registry in {name}; `ostiary registry create` makes one")
        with engine.begin() as connection:
            migrate(connection)
        watch(engine)
    except ArgumentError as err:
        raise NoRegistryError(f"that is no address of a database: {first_line(err)}") from err
    except (SQLAlchemyError, OSError) as err:
        raise StoreError(f"the registry's database cannot be opened: {first_line(err)}") from err
    return engine


def _registry_in(engine: Engine, address: sa.URL) -> bool:
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").is_file():
        return False  # looking would make the file
    return sa.inspect(engine).has_table("schema_version")


def raw_errors() -> tuple[type[BaseException], ...]:
    """What psycopg raises below SQLAlchemy, without needing it for SQLite."""
    import psycopg

    return (psycopg.Error,)


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A read that becomes a write fails in WAL mode if another writer came between: take the lock at once.
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def first_line(err: BaseException) -> str:
    return str(getattr(err, "orig", None) or err).splitlines()[0]
