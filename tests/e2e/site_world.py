"""A site as real processes: broker, claim service, worker, database; and units, each with its own TPM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from click.testing import CliRunner

from device.cli import cli
from device.secure_store.hardware.swtpm import SwTpm
from sync.fleet.provisioning.site import Site
from sync.registry.database.store import Store
from sync.registry.reports import status
from sync.service.command_line import wall_ms
from tests.sync.services import free_port, wait_for_port

OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
DEADLINE_S = 180.0
RULES = """\
version = 1
[risks.standard]
factors = ["claim", "phrase", "voice", "live"]
[zones.pharmacy]
[doors.pharmacy]
zone = "pharmacy"
risk = "standard"
[[allow]]
roles = ["staff"]
[people.4711]
roles = ["staff"]
badges = ["4711"]
"""


class SiteWorld:
    """`ostiary fleet init` in a folder that mosquitto's user can enter, and its services while they run."""

    def __init__(self, database: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ostiary-site-"))
        self.folder.chmod(0o755)
        self.database = database or f"sqlite:///{self.folder}/registry.db"
        self.ports = (free_port(), free_port())
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ostiary("registry", "create", *self.db)
        self.ostiary(
            *("fleet", "init", str(self.folder / "site"), "--name", "st-mary", "--host", "localhost"),
            *("--listen", "127.0.0.1", "--root-folder", str(self.folder / "away")),
            *("--port", str(self.ports[0]), "--claims-port", str(self.ports[1])),
        )
        self.site = Site.open(self.folder / "site")

    @property
    def db(self) -> list[str]:
        return ["--database", self.database]

    @property
    def at(self) -> list[str]:
        return ["--site", str(self.site.folder), *self.db]

    def start(
        self, *, broker: bool = True, claims: bool = True, worker: bool = False, fleet: bool = False
    ) -> None:
        """`fleet`: the worker has the command key, and keeps documents."""
        pki = self.site.pki()
        if broker:
            self.run("broker", ["mosquitto", "-c", str(self.site.folder / "broker/mosquitto.conf")])
            wait_for_port(self.ports[0], self.log("broker"))
        if claims:
            self.run("claims", [*OSTIARY, "fleet", "serve", *self.at])
            wait_for_port(self.ports[1], self.log("claims"), DEADLINE_S)
        if worker:
            tls = ["--ca", pki / "ca.pem", "--cert", pki / "worker-1.pem", "--key", pki / "worker-1.key"]
            command = [*OSTIARY, "registry", "worker", *self.db, "--broker", f"localhost:{self.ports[0]}"]
            signing = ["--signing-key", str(self.site.folder / "receipts.key")]
            if fleet:
                signing += ["--fleet-key", str(self.site.folder / "commands.key")]
            self.run("worker", [*command, *map(str, tls), *signing])

    def run(self, name: str, command: list[str], **surroundings: str) -> None:
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **surroundings}
            )

    def ended(self, name: str) -> bool:
        return self._running[name].poll() is not None

    def stop(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        for name in list(self._running):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def ostiary(self, *arguments: str) -> str:
        """A command of the desk, in this process: each process of its own would take seconds to start."""
        done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, f"{arguments}\n{done.output}"
        return done.output

    def claim(self, unit: str, *options: str, door: str = "pharmacy") -> str:
        said = self.ostiary("fleet", "claim", unit, "--door", door, "--json", *options, *self.at)
        return str(json.loads(said)["claim"])

    def states(self) -> dict[str, str]:
        """Unit -> state, as of now."""
        with closing(self.store()) as store:
            return {unit.unit: unit.state for unit in status.unit_statuses(store, wall_ms())}

    def store(self) -> Store:
        return Store.open(self.database, create=False)


class Unit:
    """A box with a TPM: its state folder, its settings, its commands."""

    def __init__(self, folder: Path, tpm: SwTpm) -> None:
        self.folder, self.tpm = folder, tpm
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self.config = folder / "state", folder / "ostiary.toml"

    def set_up(self, unit: str, door: str = "pharmacy") -> None:
        """Settings of a laptop, which approves its own state: no policy authority is needed."""
        self.config.write_text(
            f'[door]\nunit = "{unit}"\nname = "{door}"\n'
            f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{self.tpm.tcti}"\n'
        )

    @property
    def surroundings(self) -> dict[str, str]:
        return {"OSTIARY_STATE_DIR": str(self.state), "OSTIARY_CONFIG": str(self.config)}

    def ostiary(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            [*OSTIARY, *arguments],
            env={**os.environ, **self.surroundings},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@contextmanager
def site_world(database: str | None = None) -> Iterator[SiteWorld]:
    world = SiteWorld(database)
    try:
        yield world
    finally:
        world.close()


def eventually(what: Callable[[], object], within_s: float = DEADLINE_S) -> float:
    """Wait until it is so; returns the seconds it took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < within_s, "it did not come about"
        time.sleep(0.05)
    return time.monotonic() - started
