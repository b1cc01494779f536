"""Real services for tests: a private mosquitto and a private PostgreSQL, on random ports, killed at will."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.broker import write_configuration
from sync.fleet.certificates import Authority
from tests.ports import free_port as free_port
from tests.sync.disks import CAN_MOUNT, Disk
from tests.waiting import PATIENCE_S

NOW = dt.datetime.now(dt.UTC)
POSTGRES_BIN = max(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=Path("/none")
)
"""Debian 12 has version 15, Debian 13 version 17."""
DEFAULT_CONFIGURATION = """\
# mosquitto's defaults for everything but the listener and its TLS.
listener {port} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
require_certificate true
allow_anonymous true
"""


class Mosquitto:
    """The real broker. `default=True` is its default configuration plus TLS; else ours, with rights."""

    def __init__(self, folder: Path, authority: Authority, *, default: bool) -> None:
        self.port = free_port()
        # mosquitto drops root, and its user cannot enter pytest's folders.
        self.folder = Path(tempfile.mkdtemp(prefix="ostiary-mqtt-"))
        self._log = folder / "mosquitto.log"
        files = authority.issue("broker", NOW, hosts=("127.0.0.1", "localhost"))
        names = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
        if default:
            names = {name: Path(shutil.copy(path, self.folder)) for name, path in names.items()}
            self._configuration = self.folder / "mosquitto.conf"
            self._configuration.write_text(DEFAULT_CONFIGURATION.format(port=self.port, **names))
        else:
            self._configuration = write_configuration(
                self.folder, port=self.port, address="127.0.0.1", **names
            )
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "mosquitto")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["mosquitto", "-c", str(self._configuration)], stdout=log, stderr=log
            )
        wait_for_port(self.port, self._log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """As systemd does it: told to end, and started again."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self.start()

    def reload(self) -> None:
        """Have it read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def ended_by(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None


class Postgres:
    """A cluster of its own under a temporary folder, run by a user that is not root."""

    def __init__(self, disk_mb: int | None = None) -> None:
        """`disk_mb`: on a disk of its own of that size, which `fill` fills; only root can make one."""
        # Sockets have short names, and the user below cannot enter pytest's folders.
        self.folder = Path(tempfile.mkdtemp(prefix="ostiary-pg-"))
        self.port = free_port()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._options: list[str] = []
        self._disk: Disk | None = None
        if disk_mb is not None and CAN_MOUNT:
            self._disk = Disk(self.folder, disk_mb)
            self._options = ["-c", "max_wal_size=64MB"]
        if self._user:
            shutil.chown(self.folder, self._user)
        made = _made_cluster(self._user)
        subprocess.run(["cp", "-a", "--reflink=auto", made, self.folder / "data"], check=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://registry@127.0.0.1:{self.port}/registry"

    def start(self, create: bool = False) -> None:
        options = ["-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]
        options += self._options
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.as_user([str(POSTGRES_BIN / "postgres"), "-D", str(self.folder / "data"), *options]),
                stdout=log,
                stderr=log,
            )
        # Recovery after a kill -9 replays its log; beside other busy processes that takes its time.
        deadline = time.monotonic() + PATIENCE_S
        while self._ready() != 0:
            if self._process.poll() is not None:
                # The old one's shared memory is not gone yet.
                time.sleep(0.2)
                self.start(create)
                return
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        if create:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "registry", "registry")

    def kill(self) -> None:
        """kill -9 of every process of the cluster, as a power cut would."""
        if self._process is not None:
            children = (
                Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            )
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            self._process = None

    def fill(self) -> None:
        """Leave no room on its disk."""
        if self._disk is not None:
            self._disk.fill()

    def make_room(self) -> None:
        """Take that back, and start it again if the full disk ended it."""
        if self._disk is not None:
            self._disk.make_room()
        if self._process is None or self._process.poll() is not None:
            self.start()

    def remove(self) -> None:
        self.kill()
        if self._disk is not None:
            self._disk.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._process is not None

    def _ready(self) -> int:
        command = [str(POSTGRES_BIN / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode

    def _run(self, tool: str, *arguments: str) -> None:
        _run_as(self._user, [str(POSTGRES_BIN / tool), *arguments])

    def as_user(self, command: list[str]) -> list[str]:
        return _as_user(self._user, command)


@functools.cache
def _made_cluster(user: str | None) -> Path:
    """What initdb makes, once for all clusters of this process: a copy takes a tenth of the time."""
    folder = Path(tempfile.mkdtemp(prefix="ostiary-pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if user:
        shutil.chown(folder, user)
    made = folder / "data"
    _run_as(
        user, [str(POSTGRES_BIN / "initdb"), "-D", str(made), "-A", "trust", "-U", "registry", "--no-sync"]
    )
    return made


def _run_as(user: str | None, command: list[str]) -> None:
    done = subprocess.run(_as_user(user, command), capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _as_user(user: str | None, command: list[str]) -> list[str]:
    if user is None:
        return command
    found = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups", *command]


def wait_for_port(port: int, log: Path, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:]) from None
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def postgres(disk_mb: int | None = None) -> Iterator[Postgres]:
    """A running cluster with an empty database `registry`; see `Postgres`."""
    if not (POSTGRES_BIN / "postgres").exists():
        pytest.fail("PostgreSQL 15 is not installed: apt-get install postgresql")
    cluster = Postgres(disk_mb)
    try:
        cluster.start(create=True)
        yield cluster
    finally:
        cluster.remove()
