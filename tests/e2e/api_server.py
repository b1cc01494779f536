"""`ostiary api serve` as a process of its own, over mutual TLS, for the tests that attack it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from sync.fleet.certificates import Authority
from sync.transport.mqtt import TlsFiles
from tests.memory_scan import as_the_service, masked
from tests.ports import free_port

SCOPES = ("otp", "register", "verify", "results", "people", "forget")


@dataclass
class Server:
    """`ostiary api serve` with certificates of this test, started and killed at will."""

    folder: Path
    models: Path
    tls: TlsFiles
    client: TlsFiles
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OSTIARY_STATE_DIR": str(self.folder / "state"),
            "OSTIARY_MODELS_DIR": str(self.models),
            "OSTIARY_CONFIG": str(self.folder / "ostiary.toml"),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from device.cli import main; main()", "api", *arguments]

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(self.command("serve"), env=self.environment, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(httpx.TransportError), self.caller() as http:
                if http.get("/healthz").status_code == 200:
                    return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def peak_mib(self) -> int:
        """The most memory that the process has had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) >> 10  # type: ignore[index]

    def token(self, *more: str) -> dict[str, str]:
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        done = subprocess.run(
            self.command("token", "--client", "pharmacy", *scopes, *more),
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=180,
        )
        return {"Authorization": f"Bearer {done.stdout.decode().strip()}"}

    def caller(self, files: TlsFiles | None = None, **more: object) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.tls.ca))
        files = files or self.client
        context.load_cert_chain(files.certificate, files.key)
        return httpx.Client(base_url=f"https://127.0.0.1:{self.port}", verify=context, timeout=180, **more)  # type: ignore[arg-type]


@contextlib.contextmanager
def served(folder: Path, models: Path) -> Iterator[Server]:
    """A facade in `folder`, with certificates of its own."""
    authority = Authority.open(folder / "ca", dt.datetime.now(dt.UTC))
    now = dt.datetime.now(dt.UTC)
    tls = authority.issue("api", now, hosts=("127.0.0.1",))
    client = authority.issue("pharmacy", now)
    port = free_port()
    (folder / "ostiary.toml").write_text(
        "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"
        f"[api]\nport = {port}\ncertificate = '{tls.certificate}'\nkey = '{tls.key}'\n"
        f"client_ca = '{tls.ca}'\nchecks_per_person_per_min = 6000.0\n"
    )
    running = Server(folder, models, tls, client, port)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.process.terminate()
            running.process.wait(timeout=180)


class Searched:
    """The facade under `tests.memory_scan`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.kill()
        log = (server.folder / "server.log").open("ab")
        server.process = self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.memory_scan", "api", "serve"],
            env={**server.environment, **as_the_service("api")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
        log.close()
        deadline = time.monotonic() + 180
        while True:
            with suppress(httpx.TransportError), server.caller() as http:
                if http.get("/healthz").status_code == 200:
                    return
            assert self.process.poll() is None, (server.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def counts(self, needles: Sequence[bytes]) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(masked, needles)).encode() + b"\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()]

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
