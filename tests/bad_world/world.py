"""What the scenarios share: an enrolled unit to copy, its commands, its running door, a clock that lies."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from device.settings import models_dir
from tests.bad_world import clocks
from tests.e2e.sound_server import SoundServer
from tests.speech import Reading

OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
PATIENCE_S = 600.0
"""Ends what hangs; a busy machine is slow."""
PERSON = "4711"
JUDGED = "DENIED_(PHRASE|REPLAY)"
"""How an answer ends that was heard and judged: never the asked words, and the same recording again."""
LOUD = re.compile(r"Traceback|damaged beyond repair|store init --replace")
"""What no command may say here: a traceback, or the advice to destroy what is whole."""


class NotCheckedError(Exception):
    """This machine cannot bring it about; the text says why."""


class Ended(NamedTuple):
    """How one scenario ended, for the table."""

    saw: str
    log: str
    recovered: str


Scenario = Callable[["World"], Ended]


class Ran(NamedTuple):
    code: int
    said: str


class Door:
    """`ostiary run` as a process: badges in, what the door shows out."""

    def __init__(self, environment: dict[str, str], *options: object, through: Sequence[str] = ()) -> None:
        """`through` is a command that runs it, a tracer perhaps."""
        self._process = subprocess.Popen(
            [*through, *OSTIARY, "run", "--verbose", *map(str, options)],
            env={**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever became of the scenario."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        with suppress(ValueError):
            for line in self._process.stdout or ():
                self._lines.put(line)

    @property
    def told(self) -> str:
        return "".join(self.seen)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def shows(self, pattern: str) -> str:
        """Wait for a line that matches; returns it without the frame of the display."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self.seen.append(self._lines.get(timeout=min(left_s, 1.0)))
                if re.search(pattern, self.seen[-1]):
                    return self.seen[-1].strip(" │\n")
                continue
            if not self.lives and self._lines.empty():
                break
        raise AssertionError(f"no {pattern!r} in:\n{self.told}")

    def badge(self, number: str = PERSON) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        """As systemd would; it must obey."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """No more badges: it ends by itself. Nothing that it told may be a traceback or an opening."""
        assert self.lives, self.told
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        while not self._lines.empty():
            self.seen.append(self._lines.get())
        assert "released" not in self.told
        assert not LOUD.search(self.told), self.told


@dataclass(frozen=True)
class Unit:
    """One unit's folders and settings; every command sees the same."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def state(self) -> Path:
        return Path(self.environment["OSTIARY_STATE_DIR"])

    @property
    def page(self) -> str:
        return (self.folder / "page" / "door.html").read_text()

    def with_(self, **changes: str) -> Unit:
        return replace(self, environment={**self.environment, **changes})

    def at(self, clock: str) -> Unit:
        """The same unit with a clock that says `clock`; running time goes on as it is."""
        return self.with_(**clocks.environment(self.folder, clock))

    def does(self, *arguments: object, stdin: bytes = b"") -> Ran:
        """One command to its end."""
        ran = subprocess.run(
            [*OSTIARY, *map(str, arguments)],
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )
        said = ran.stdout.decode(errors="replace")
        assert not LOUD.search(said), said
        return Ran(ran.returncode, said)

    def door(self, *options: object) -> Door:
        return Door(self.environment, *options)

    def people(self) -> list[str]:
        return [str(one["uid"]) for one in self._json("people", "--json")]

    def events(self) -> list[str]:
        """`KIND reason` of the latest events, newest first."""
        found = self._json("policy", "recent", "--json", "--count", "60")
        return [f"{one['kind']} {one['reason']}" for one in found]

    def adopts(self, rules: str) -> Ran:
        path = self.folder / "rules.toml"
        path.write_text(rules)
        return self.does("policy", "adopt", path)

    def _json(self, *arguments: object) -> list[dict[str, Any]]:
        told = self.does(*arguments).said
        assert "[" in told, told
        found: list[dict[str, Any]] = json.loads(told[told.index("[") :])
        return found


@dataclass(frozen=True)
class World:
    """Made once: a unit in which `PERSON` is enrolled, and a sound server."""

    folder: Path
    sound: SoundServer
    reader: Sequence[Reading]

    @classmethod
    def made(cls, folder: Path, sound: SoundServer, reader: Sequence[Reading]) -> World:
        world = cls(folder, sound, reader)
        first = world.bare("first")
        enrolled = first.does("enroll", PERSON, *(reader[number].path for number in (0, 2, 3)))
        assert enrolled.code == 0, enrolled.said
        return world

    @property
    def sentence(self) -> Path:
        """The person's own voice, and never the words that the door asks for."""
        return self.reader[4].path

    def unit(self, name: str, settings: str = "", *, state: Path | None = None) -> Unit:
        """Another unit like the first; `state` puts its folder somewhere else."""
        unit = self.bare(name, settings, state)
        shutil.copytree(self.folder / "first" / "state", unit.state)
        return unit

    def bare(self, name: str, settings: str = "", state: Path | None = None, tpm: str = "") -> Unit:
        """A unit in which nobody is enrolled; `tpm` is where its TPM answers, if it has one."""
        keys = f"keystore = 'tpm'\ntcti = '{tpm}'" if tpm else "keystore = 'software'"
        folder = self.folder / name
        (folder / "page").mkdir(parents=True)
        config = folder / "ostiary.toml"
        config.write_text(
            f"[store]\nprofile = 'laptop'\n{keys}\n[door]\nunit = 'site-1/unit-1'\n"
            f"[judge]\ntimeout_s = 60.0\n[feedback]\npage = '{folder}/page/door.html'\n{settings}\n"
        )
        given = {name: value for name, value in self.sound.environment.items() if name != "TZ"}
        return Unit(
            folder,
            {
                **given,
                "OSTIARY_STATE_DIR": str(state or folder / "state"),
                "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
                "OSTIARY_CONFIG": str(config),
            },
        )


def small_disk(folder: Path, size_mb: int) -> Path:
    """A disk of its own below `folder`. Raises NotCheckedError where nobody may mount one."""
    if os.geteuid() != 0:
        raise NotCheckedError("only root can mount a small disk")
    disk = folder / "disk"
    disk.mkdir(parents=True)
    size = f"size={size_mb}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], check=False)
    if mounted.returncode:
        raise NotCheckedError("this machine lets nobody mount a disk")
    return disk


def unmount(disk: Path) -> None:
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no room for one more byte."""
    ballast = disk / "ballast"
    for size in (4096, 1):
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * size)
    return ballast
