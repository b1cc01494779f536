"""Controllers in processes of their own, and the environment of the second one."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
PATIENCE_S = 180.0
OSDP_VERSION = "1.6"


def pure_python() -> str:
    """The interpreter of an environment with the pure-Python controller, whose package has libosdp's name.
    Made once, under `build/`; what keeps it from being made is an error and no skip.
    """
    folder = ROOT / "build" / f"osdp-{OSDP_VERSION}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "osdp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=180)
            install = [str(python), "-m", "pip", "install", "--quiet", f"osdp=={OSDP_VERSION}"]
            subprocess.run(install, check=True, timeout=300)
            (folder / "ready").touch()
    return str(python)


class PanelProcess:
    """A controller that tells what happens, a JSON line each."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.told: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def libosdp(cls, port: Path, key: bytes | None, flags: str = "secure") -> Self:
        script = str(HERE / "libosdp_panel.py")
        return cls(sys.executable, script, str(port), "none" if key is None else key.hex(), flags)

    @classmethod
    def pure(cls, port: Path, master_key: bytes, channel: str = "secure", seconds: float = 900.0) -> Self:
        script = str(HERE / "pure_panel.py")
        return cls(pure_python(), script, str(port), str(seconds), master_key.hex(), channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def order(self, **command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["kind"] == kind]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(json.loads(line))


def wait_for(true: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)
