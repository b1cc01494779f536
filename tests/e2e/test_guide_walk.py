"""As an installer who has only the guide: its ten steps, with the commands copied from the page.

The service manager is this test: it starts the door as the unit file says, with its pipe and its notification
socket. `scripts/try-package` walks the same page on a booted Debian with the package and systemd.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import Reading, require_tools
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operator" / "README.md"
PATIENCE_S = 400.0


def steps(page: str) -> dict[int, str]:
    """The commands under each numbered heading."""
    parts = re.split(r"^## (?:(\d+)[.] )?.*$", page, flags=re.MULTILINE)
    return {
        int(number): "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
        for number, text in zip(parts[1::2], parts[2::2], strict=True)
        if number
    }


class ServiceManager:
    """`systemctl start` and `show -P StatusText` for the one unit, as its file in systemd/ has it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._process: subprocess.Popen[bytes] | None = None
        os.mkfifo(folder / "systemctl")
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._obey, self._hear)]
        for thread in self._threads:
            thread.start()

    def _obey(self) -> None:
        while (asked := (self._folder / "systemctl").read_text()).strip() != "end":
            if "start ostiary-door" in asked:
                self._start()

    def _hear(self) -> None:
        while data := self._socket.recv(4096):
            told = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "STATUS" in told:
                (self._folder / "status").write_text(told["STATUS"])
            if told.get("READY") == "1":
                (self._folder / "ready").touch()

    def _start(self) -> None:
        unit = (ROOT / "systemd" / "ostiary-door.service").read_text()
        command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        assert command is not None
        pipe = self._folder / "run" / "badges"
        os.mkfifo(pipe)
        with (self._folder / "journal").open("wb") as journal:
            self._process = subprocess.Popen(
                ["ostiary", *shlex.split(command[1])[1:]],
                env={**self._environment, "NOTIFY_SOCKET": str(self._folder / "notify")},
                stdin=os.open(pipe, os.O_RDWR),  # held open, as the socket unit does
                stdout=subprocess.DEVNULL,
                stderr=journal,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(PATIENCE_S) == 0
        (self._folder / "systemctl").write_text("end")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._folder / "notify"))
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self._socket.close()


class Machine:
    """Where the installer types: the page's folders lie under a folder of the test."""

    def __init__(self, folder: Path, sound: SoundServer, tcti: str) -> None:
        self.folder, self.steps = folder, steps(PAGE.read_text("utf-8"))
        programs = folder / "bin"
        for name in ("bin", "etc", "run", "root"):
            (folder / name).mkdir()
        self._program(
            programs / "ostiary", f'exec {sys.executable} -c "from device.cli import main; main()" "$@"'
        )
        self._program(
            programs / "systemctl",
            f'cd {folder}; if [ "$1" = show ]; then exec cat status; fi\n'
            'echo "$@" >systemctl; while [ ! -e ready ]; do sleep 0.1; done',
        )
        self.environment = {
            **sound.environment,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OSTIARY_STATE_DIR": str(folder / "state"),
            "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
            "OSTIARY_CONFIG": str(folder / "etc" / "ostiary.toml"),
            "OSTIARY_FIRST_BOOT_FILE": str(folder / "etc" / "ostiary.toml"),
            "OSTIARY_FIRST_BOOT_TCTI": tcti,
            "OSTIARY_RUN_METRICS": str(folder / "run" / "door.prom"),
        }

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def step(self, number: int, typed: str = "") -> str:
        """Run the commands of this step as the page has them; what they said."""
        commands = self.steps[number]
        for there, here in (("/etc/ostiary", "etc"), ("/run/ostiary", "run"), ("/root", "root")):
            commands = commands.replace(there, str(self.folder / here))
        ran = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            env=self.environment,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ran.returncode == 0, f"step {number}:\n{ran.stdout}"
        return ran.stdout

    @property
    def phrase(self) -> str:
        page = self.folder / "run" / "door.html"
        found = re.search(r'class="phrase"[^>]*>([^<]+)<', page.read_text() if page.exists() else "")
        return found[1] if found else ""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    require_sound()
    require_tools(("arecord", "openssl"), "alsa-utils openssl")
    with SoundServer() as sound, SwTpm(tmp_path / "tpm") as tpm:
        made = Machine(tmp_path, sound, tpm.tcti)
        made.sound = sound  # type: ignore[attr-defined]
        yield made


@pytest.mark.timeout(900)
def test_the_ten_steps_of_the_guide_lead_from_the_package_to_an_attempt_that_is_written_down(
    machine: Machine, reader: list[Reading]
) -> None:
    sound: SoundServer = machine.sound  # type: ignore[attr-defined]
    assert sorted(machine.steps) == list(range(1, 11))
    assert machine.steps[1] == ""
    assert machine.steps[2].splitlines()[-1] == "apt-get install -y ./ostiary_*.deb"
    machine.step(3)
    assert "pharmacy" in machine.step(4, "pharmacy\n")
    assert "first installation" in machine.step(5)
    assert "no mistake" in machine.step(6)
    assert "Rules 1" in machine.step(7)
    over = threading.Event()

    def speak() -> None:
        while not over.is_set():
            for one in reader:
                sound.play(one.path)
                over.wait(2.0)  # so that no sentence comes twice in five recordings of six seconds

    speaking = threading.Thread(target=speak)
    speaking.start()
    try:
        assert "Enrolled from 5 recordings" in machine.step(8)
    finally:
        over.set()
        speaking.join()
    services = ServiceManager(machine.folder, machine.environment)
    try:
        told = machine.step(9)
        assert told.startswith("ready"), told
        assert "WRONG" not in told
        with (machine.folder / "run" / "badges").open("w") as badges:
            badges.write("4711\n")
        wait_until(lambda: machine.phrase)
        sound.play(reader[4].path)
        # A sound server that cracks on a busy machine is heard as a noise over the words.
        wait_until(lambda: re.search("DENIED_(PHRASE|QUALITY)", machine.step(10)))
    finally:
        services.stop()
