"""A process under strace: the sockets it used, the files it wrote, and whether it asked for a host's name."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.speech import require_tools

CALLS = (
    "socket,connect,bind,sendto,sendmsg,sendmmsg,"
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknod,mknodat"
)
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE")
NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf")


@dataclass
class Opened:
    """What a process and its children opened. Paths are absolute."""

    peers: set[str] = field(default_factory=set)
    """`inet 127.0.0.1:8883`, `unix /run/x`, `netlink`: whom it connected to, sent to or listened as."""
    families: set[str] = field(default_factory=set)
    """Of every socket that was made, used or not: AF_UNIX, AF_INET, ..."""
    written: set[Path] = field(default_factory=set)
    """Files and folders that were made, or opened so that they can be changed."""
    name_service: set[str] = field(default_factory=set)
    """Files that are read only to look a host's name up."""

    def outside(self, *folders: Path) -> set[Path]:
        """What was written neither in `folders` nor to a device that keeps nothing."""
        kept = {path for path in self.written if path not in (Path("/dev/null"), Path("/dev/tty"))}
        return {path for path in kept if not any(path.is_relative_to(folder) for folder in folders)}


def door_peers(runtime: str) -> set[str]:
    """Whom `ostiary run` talks to: PortAudio asks PulseAudio (in tests) or ALSA, and whether JACK runs.

    `runtime` is the sound server's folder. docs/threat-model.md has the same list in words.
    """
    return {f"unix /dev/shm/jack_default_{os.geteuid()}_0", f"unix {runtime}/pulse/native"}


def door_folders(state: Path, page: Path) -> tuple[Path, ...]:
    """Where `ostiary run` writes: its own folder, the display's page, the place of JACK's database."""
    return (state, page, Path(f"/dev/shm/jack_db-{os.geteuid()}"))


class Watched:
    """`command` running under strace, its own output in files below `folder`."""

    def __init__(self, folder: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        require_tools(("strace",), "strace")
        folder.mkdir(parents=True)
        self._trace, self._output = folder / "trace", folder / "output"
        self._cwd = folder / "cwd"
        self._cwd.mkdir()
        tracer = ("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "300", "-e", f"trace={CALLS}")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*tracer, "-e", "signal=none", "-o", str(self._trace), *command],
                env=environment,
                cwd=self._cwd,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def shows(self, pattern: str, patience_s: float = 180.0) -> None:
        """Wait until its output matches."""
        deadline = time.monotonic() + patience_s
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.output}"
            time.sleep(0.05)

    def types(self, line: str) -> None:
        stdin: IO[bytes] | None = self.process.stdin
        assert stdin is not None
        stdin.write(f"{line}\n".encode())
        stdin.flush()

    def stop(self) -> Opened:
        """End it as systemd would, and tell what it opened."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        subprocess.run(["kill", "-TERM", *children], check=False)  # strace itself would only detach
        return self.ended()

    def ended(self) -> Opened:
        """Wait for its own end, and tell what it opened."""
        self.process.communicate(timeout=180)
        return opened(self._trace.read_text(errors="replace"), self._cwd)


def opened(trace: str, cwd: Path) -> Opened:
    """Read strace's lines, made with `-y`. Calls that failed count too, but for files."""
    found = Opened()
    for line in joined(trace):
        called = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*)>)?", line)
        if called is None:
            continue
        name, arguments, result, path = called.groups()
        if name == "socket":
            found.families.add(arguments.split(",")[0])
        elif name in ("connect", "bind", "sendto", "sendmsg", "sendmmsg"):
            found.peers |= peers(arguments)
        elif name in ("open", "openat", "openat2", "creat"):
            if (name == "creat" or WRITES.search(arguments)) and path and not result.startswith("-"):
                found.written.add(Path(path.removesuffix("(deleted)")))
            found.name_service |= {given for given in NAME_SERVICE if f'"{given}"' in arguments}
        elif not result.startswith("-"):  # makes a name: the last one given is the new one
            base = re.findall(r"AT_FDCWD<(.*?)>|\d+<(.*?)>", arguments)
            new = re.findall(r'"([^"]*)"', arguments)[-1]
            found.written.add(Path(*(part for part in base[-1] if part)) / new if base else cwd / new)
    return found


def joined(trace: str) -> list[str]:
    """Every call on one line, without its process: strace splits one that another process interrupts."""
    waiting: dict[str, str] = {}
    lines = []
    for row in trace.splitlines():
        pid, _, line = row.partition(" ")
        line = line.strip()
        if line.endswith("<unfinished ...>"):
            waiting[pid] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", line):
            line = waiting.pop(pid, "") + resumed[1]
        lines.append(line)
    return lines


def peers(arguments: str) -> set[str]:
    """Every address in the text of one call."""
    found = {
        f"inet {address}:{port}"
        for port, address in re.findall(
            r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)', arguments
        )
    }
    found |= {
        f"inet6 [{address}]:{port}"
        for port, address in re.findall(
            r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"', arguments
        )
    }
    found |= {f"unix {path}" for path in re.findall(r'sun_path=@?"([^"]+)"', arguments)}
    return found | ({"netlink"} if "sa_family=AF_NETLINK" in arguments else set())
