"""Opening the registry's database: SQLite or PostgreSQL, with the schema brought up to date."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sync.errors import SyncError
from sync.plain_words import told, why
from sync.registry.database.fleet_changes import watch
from sync.registry.database.migrations import migrate

log = logging.getLogger(__name__)


class StoreError(SyncError):
    """The database does not answer. Nothing was stored; the caller tries again."""


class NoRegistryError(StoreError):
    """No registry has that address; waiting does not help."""


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
        raise NoRegistryError(
            "that is no address of a database; it is sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from err
    except (SQLAlchemyError, OSError) as err:
        raise StoreError(f"the registry's database cannot be opened: {of_database(err)}") from err
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


_STATES = {
    "08": "its server does not answer",
    "22": "it does not take such a value",
    "23": "it does not go together with what is there",
    "25": "it can only be read",
    "28": "its server refuses this user or the password",
    "3D": "its server has no database of that name",
    "40": "somebody else changed the same; try again",
    "42": "this user may not, or it does not have the form that this version writes",
    "53": "its server has no room, no memory or no connection left",
    "55": "another program is using it",
    "57": "its server is stopping or was told to end this",
    "58": "the disk of its server fails",
}
"""By the class of an SQLSTATE (PostgreSQL, appendix A)."""


_NO_ANSWER = _STATES["08"]
_CONNECTING = (
    ("closed", _NO_ANSWER),  # also of one that was good: "SSL connection has been closed unexpectedly"
    ("SYSCALL", _NO_ANSWER),
    ("too many", _STATES["53"]),
    ("connection slots", _STATES["53"]),
    ("starting up", "its server is starting; wait a moment"),
    ("shutting down", _STATES["57"]),
    ("password", _STATES["28"]),
    ("authentication", _STATES["28"]),
    ("pg_hba.conf", _STATES["28"]),
    ("permission denied", _STATES["28"]),
    ('role "', _STATES["28"]),
    ('database "', _STATES["3D"]),
    ("resolve host", "no such host is known"),
    ("translate host name", "no such host is known"),
    ("certificate", "the certificate of its server, or ours, is not accepted"),
    ("SSL", "it and its server do not agree on TLS; look at sslmode"),
    ("FATAL", "its server refused the connection; its own log says why"),
)
"""A refused connection has no SQLSTATE: a part of its text, and the words for it; the first that fits."""


def of_database(err: BaseException) -> str:
    """Why, in words for people; what the database says by itself is in the log at debug level."""
    found = getattr(err, "orig", None) or err
    if isinstance(found, sqlite3.Error | OSError):
        return why(found)
    if not hasattr(found, "sqlstate") and not isinstance(found, sa.exc.TimeoutError):
        return told(found)
    log.debug("the database says: %s", found)
    state = getattr(found, "sqlstate", None)
    if state is None:
        return next((words for part, words in _CONNECTING if part in str(found)), _NO_ANSWER)
    return _STATES.get(state[:2], f"it refused (SQLSTATE {state}); its own log says why")
