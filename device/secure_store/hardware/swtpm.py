"""A TPM 2.0 in software, for the demo and the tests; a unit never starts it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.secure_store.errors import StoreError
from device.secure_store.settings import StoreSettings


class SwTpm:
    """`swtpm socket` on two neighbouring ports of this machine, with its state in `folder`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("swtpm") is None:
            raise StoreError("swtpm is missing: apt-get install swtpm")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = two_free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def settings(self, **changes: object) -> StoreSettings:
        """A laptop's store on this TPM."""
        return StoreSettings(**{"profile": "laptop", "tcti": self.tcti, **changes})  # type: ignore[arg-type]

    def start(self) -> SwTpm:
        """Power on. The first client sends TPM2_Startup, as a kernel would."""
        for _ in range(5):  # the port may still be in use by what was killed a moment ago
            self._process = subprocess.Popen(
                [
                    "swtpm",
                    "socket",
                    "--tpm2",
                    *("--server", f"type=tcp,port={self.port},bindaddr=127.0.0.1"),
                    *("--ctrl", f"type=tcp,port={self.port + 1},bindaddr=127.0.0.1"),
                    *("--tpmstate", f"dir={self.folder}"),
                    *("--flags", "not-need-init"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers():
                return self
            self.power_cut()
            time.sleep(0.2)
        raise StoreError("swtpm does not start; run `swtpm socket --help` to see whether it works")

    def power_cut(self) -> None:
        """No TPM2_Shutdown, no warning."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and commands meanwhile, and answers them afterwards."""
        if self._process is None:
            raise StoreError("swtpm does not run")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def asked(self) -> bool:
        """Whether a command waits that it has not read."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = (line.split() for line in lines)
        ours = {f"0100007F:{port:04X}" for port in (self.port, self.port + 1)}
        return any(row[1] in ours and row[3] == "01" and not row[4].endswith(":00000000") for row in rows)

    def __enter__(self) -> SwTpm:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.power_cut()

    def reboot(self) -> None:
        self.power_cut()
        self.start()

    def _answers(self) -> bool:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            if _listening(self.port) and _listening(self.port + 1):
                return True
            time.sleep(0.01)
        return False


def _listening(port: int) -> bool:
    """Whether `port` is open; not by connecting, for swtpm serves one client only."""
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in lines)


def two_free_ports() -> int:
    """The first of two neighbouring ports that nobody listens on; raises StoreError."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            # Below the range the kernel hands out, so that no other program takes it between two starts.
            port = 20_000 + port % 10_000 // 2 * 2
            try:
                with socket.socket() as third:
                    third.bind(("127.0.0.1", port))
                    second.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue
    raise StoreError("no two neighbouring free ports")
