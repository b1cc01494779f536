"""One door of the week: `ostiary run` with badges, a microphone's pipe, and what it costs its machine."""

from __future__ import annotations

import os
import queue
import re
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from device.state_folder import StateFolder
from device.uplink import orders
from device.uplink.orders import Action, Order
from tests.e2e.site_world import OSTIARY, Unit
from tests.e2e.week_clock import JumpingClocks, nobody_at

RATE_HZ, FRAME, NOISE, TAIL_S = 16_000, 320, 12.0, 60
FIRST = 20 * FRAME
AWAY_S = 50
"""Longer than a door waits for somebody to speak."""
PATIENCE_S = 300.0
SENTENCES = (
    "the river was quiet in the early morning and nobody was on the bridge",
    "please put the yellow boxes on the second shelf beside the window",
    "we will meet again in the garden when the summer holidays are over",
)


class Process(NamedTuple):
    """What one process holds and has used: MB, counts, kB written to disks, seconds of a processor."""

    private_mb: float
    shared_mb: float
    resident_mb: float
    files: int
    threads: int
    written_kb: float
    processor_s: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Raises OSError when it is gone."""
        at = Path(f"/proc/{pid}")
        kb = {
            name: int(value)
            for name, value in re.findall(
                r"^(\w+): +(\d+) kB$", (at / "smaps_rollup").read_text(), re.MULTILINE
            )
        }
        private = kb["Private_Clean"] + kb["Private_Dirty"]
        # The name of a program may hold blanks and brackets.
        fields = (at / "stat").read_text().rpartition(")")[2].split()
        written = int((at / "io").read_text().split("\nwrite_bytes: ")[1].split()[0])
        return cls(
            private / 1000 * 1.024,
            (kb["Rss"] - private) / 1000 * 1.024,
            kb["Rss"] / 1000 * 1.024,
            sum(1 for _ in (at / "fd").iterdir()),
            sum(1 for _ in (at / "task").iterdir()),
            written / 1000,
            (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        )


class Disk(NamedTuple):
    """Of a state folder: kB of everything, of the audit log, of its archive; files; events not yet sent."""

    all_kb: float
    log_kb: float
    archive_kb: float
    files: int
    pending: int

    @classmethod
    def of(cls, state: Path) -> Disk:
        folder = StateFolder(state)
        sizes: dict[Path, int] = {}
        for path in state.rglob("*"):
            with suppress(FileNotFoundError):  # a draft that was renamed, or SQLite's journal
                if path.is_file():
                    sizes[path] = path.stat().st_size
        log = sum(size for path, size in sizes.items() if path.name in ("outbox.db", "outbox.db-wal"))
        archive = sum(size for path, size in sizes.items() if folder.audit_archive in path.parents)
        with closing(sqlite3.connect(f"file:{folder.audit_log}?mode=ro", uri=True, timeout=60)) as db:
            (pending,) = db.execute("SELECT sequence - acknowledged FROM state").fetchone()
        return cls(sum(sizes.values()) / 1000, log / 1000, archive / 1000, len(sizes), int(pending))


@dataclass(frozen=True)
class Answer:
    """What is said at the door: who speaks, and other words than those asked for."""

    voice: str = ""
    words: str = ""


class Door(Unit):
    """A unit with its TPM, whose clocks jump."""

    def __init__(self, folder: Path, tpm: SwTpm, clocks: JumpingClocks, name: str) -> None:
        super().__init__(folder, tpm)
        self.name, self._clocks = name, clocks
        self._lines: queue.Queue[str] = queue.Queue()
        self._noise = np.random.default_rng(1).normal(0.0, NOISE, TAIL_S * RATE_HZ).astype(np.int16)
        self._said = np.zeros(0, np.int16)
        self._speech: queue.Queue[np.ndarray] = queue.Queue()
        self.pipe = folder / "line"
        self.told: list[str] = []

    @property
    def surroundings(self) -> dict[str, str]:
        more = {"OSTIARY_MODELS_DIR": str(models_dir().absolute()), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        return {**super().surroundings, **more, **self._clocks.environment()}

    def enrol(self, uid: str, voice: str) -> None:
        paths = []
        for number, text in enumerate(SENTENCES):
            path = self.folder / f"{uid}-{number}.wav"
            _say(voice, text, path)
            paths.append(str(path))
        self.ostiary("enroll", uid, *paths, "--consent-to", "access-desk")

    def start(self) -> None:
        os.mkfifo(self.pipe)
        threading.Thread(target=self._feed, daemon=True).start()
        figures = ["--metrics", str(self.folder / "door.prom")]
        self._process = subprocess.Popen(
            [*OSTIARY, "run", "--verbose", "--source", str(self.pipe), *figures],
            env={**os.environ, **self.surroundings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.shows("Show your badge")

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait for a line that fits; every line until then is kept in `told`, of late."""
        until_s = time.monotonic() + PATIENCE_S
        while (left_s := until_s - time.monotonic()) > 0:
            assert self._process.poll() is None, "".join(self.told)
            with suppress(queue.Empty):
                self.told.append(self._lines.get(timeout=min(left_s, 1.0)))
                del self.told[:-2000]
                if found := re.search(pattern, self.told[-1]):
                    return found
        raise AssertionError(f"no {pattern!r} in:\n{''.join(self.told)}")

    def visit(self, badge: str, answer: Answer) -> str:
        """One person's visit: the outcome. Who fell just short is asked once more, and answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{badge}\n")
        self._process.stdin.flush()
        while True:
            found = self.shows(r"Please say: (.+?)\s*│|commands\.run: ([A-Z_]+): ")
            if found[1] is None:
                if found[2] == "STEP_UP":
                    continue
                return found[2]
            self._speak(found[1], answer)

    def _speak(self, phrase: str, answer: Answer) -> None:
        if not answer.voice:  # nobody speaks, and the door waits no longer
            with nobody_at([self.tpm], [self.pid]):
                self._clocks.go_on(AWAY_S)
            self._speech.put(np.zeros(0, np.int16))
            return
        if answer.words != "again":
            words = ", ".join((answer.words or phrase).split())
            self._said = _say(answer.voice, words, self.folder / "said.wav")
        self._speech.put(self._said)

    def _feed(self) -> None:
        """The microphone's pipe: faint noise, then what is said, as fast as the door listens."""
        while True:
            with suppress(BrokenPipeError), self.pipe.open("wb", buffering=0) as pipe:
                with suppress(queue.Empty):
                    while True:
                        self._speech.get_nowait()  # of somebody whom the door did not wait for
                pipe.write(self._noise[:FIRST].tobytes())
                said = None
                while said is None:
                    with suppress(queue.Empty):
                        said = self._speech.get(timeout=1.0)
                    pipe.write(self._noise[:FRAME].tobytes())
                sound = self._noise.copy()
                sound[FIRST : FIRST + len(said)] += said
                for start in range(0, len(sound), 5 * FRAME):
                    pipe.write(sound[start : start + 5 * FRAME].tobytes())

    def pardon(self, uid: str) -> None:
        """As an admin would, who was called."""
        orders.post(StateFolder(self.state).orders, Order(Action.PARDON, uid))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _say(voice: str, text: str, path: Path) -> np.ndarray:
    """flite's int16 samples at 16 kHz."""
    stretch = ["--setf", "duration_stretch=1.15"]
    subprocess.run(["flite", "-voice", voice, *stretch, "-t", text, "-o", str(path)], check=True, timeout=180)
    wave, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ
    return np.asarray(wave, np.int16)
