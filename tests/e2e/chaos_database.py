"""A registry's database for the chaos test, and what may happen to it: the same strikes on either make."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from sync.registry.database.store import Store
from tests.sync.disks import CAN_MOUNT, Disk
from tests.sync.services import Postgres


class Database(Protocol):
    """Each pair takes something away and gives it back. `own_disk`: the second and the third can be tried."""

    url: str
    own_disk: bool
    stops_workers: bool
    """Whether its disk turns read-only only while no worker has it open."""

    def down(self) -> None: ...

    def up(self) -> None: ...

    def read_only(self) -> None: ...

    def writable(self) -> None: ...

    def fill(self) -> None: ...

    def make_room(self) -> None: ...

    def close(self) -> None: ...


class OnPostgres:
    """A cluster of its own: killed, told to write nothing, its disk filled."""

    stops_workers = False

    def __init__(self, disk_mb: int) -> None:
        self.own_disk = CAN_MOUNT
        self._cluster = Postgres(disk_mb if CAN_MOUNT else None)
        self._cluster.start(create=True)
        self.url = self._cluster.url

    def down(self) -> None:
        self._cluster.kill()

    def up(self) -> None:
        self._cluster.start()

    def read_only(self) -> None:
        self._takes_nothing("on")

    def writable(self) -> None:
        self._takes_nothing("off")

    def _takes_nothing(self, state: str) -> None:
        """For every connection made from now on; those that there are end."""
        others = "pid <> pg_backend_pid() AND usename = 'registry'"
        engine = sa.create_engine(sa.make_url(self.url).set(drivername="postgresql+psycopg"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            for statement in (
                "SET default_transaction_read_only = off",
                f"ALTER DATABASE registry SET default_transaction_read_only = {state}",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}",  # noqa: S608
            ):
                db.execute(sa.text(statement))
        engine.dispose()

    def fill(self) -> None:
        self._cluster.fill()

    def make_room(self) -> None:
        self._cluster.make_room()

    def close(self) -> None:
        self._cluster.remove()


class OnSqlite:
    """A file: locked by another program, on a disk that turns read-only, on one that is full."""

    def __init__(self, disk_mb: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ostiary-chaos-"))
        self.own_disk = self.stops_workers = CAN_MOUNT
        self._disk = Disk(self._folder, disk_mb) if CAN_MOUNT else None
        self._path = self._folder / "registry.db"
        self.url = f"sqlite:///{self._path}"
        self._other: sqlite3.Connection | None = None
        Store.open(self.url).close()

    def down(self) -> None:
        self._other = sqlite3.connect(self._path, isolation_level=None, timeout=60)
        self._other.execute("BEGIN IMMEDIATE")

    def up(self) -> None:
        if self._other is not None:
            self._other.close()

    def read_only(self) -> None:
        if self._disk is not None:
            self._disk.read_only(True)

    def writable(self) -> None:
        if self._disk is not None:
            self._disk.read_only(False)

    def fill(self) -> None:
        if self._disk is not None:
            self._disk.fill()

    def make_room(self) -> None:
        if self._disk is not None:
            self._disk.make_room()

    def close(self) -> None:
        if self._disk is not None:
            self._disk.remove()
        shutil.rmtree(self._folder, ignore_errors=True)
