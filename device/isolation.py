"""Checks whether a process can reach a network, by looking at its interfaces.

systemd gives the door an empty network namespace, and address families without the network's. Where it may
not make the namespace it goes on without, and only its journal says so. So the door looks for itself when it
starts, and `ostiary doctor` looks at the running door.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from device.errors import DeviceError
from sync.plain_file import plain_text
from sync.plain_words import why

SERVICE = "ostiary-door.service"
REMEDY = "let systemd make network namespaces; `journalctl -u ostiary-door` says why it did not"

_IN_EVERY_NAMESPACE = frozenset(
    ("lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0")
)
"""Loopback, and what tunnel modules of the kernel put into each new one (fb_tunnels_only_for_init_net)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What one process can reach of a network."""

    interfaces: tuple[str, ...]
    """By name, without those that an empty namespace has, too."""
    sockets: bool
    """Whether it can make sockets of a network; taken as true for another process."""

    @property
    def complete(self) -> bool:
        """Nothing leads out of its namespace."""
        return not self.interfaces

    @property
    def reaches(self) -> bool:
        """Nothing keeps it from the network."""
        return self.sockets and not self.complete

    def __str__(self) -> str:
        if self.complete:
            return "no network"
        seen = f"the network namespace of the machine ({', '.join(self.interfaces)})"
        return f"{seen}, and sockets" if self.sockets else f"{seen}, but no sockets of a network"


def own(process: Path = Path("/proc/self"), make: Callable[[int, int], object] | None = None) -> Isolation:
    """The isolation of this process. `make` opens a socket of a family and a type; nothing is sent."""
    return Isolation(_interfaces(process), any(_can(make or _make, family) for family in _FAMILIES))


def of_running_door(proc: Path = Path("/proc")) -> Isolation | None:
    """The isolation of the door's service; None where it does not run. Raises DeviceError."""
    for process in _processes(proc):
        try:
            if f"/{SERVICE}" in (process / "cgroup").read_text():
                return Isolation(_interfaces(process), sockets=True)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended meanwhile, or is nobody whom we may look at
    return None


def required(found: Isolation) -> bool:
    """Whether a door that must have no network has none; False where only its sockets are refused.

    Raises DeviceError where it can reach the network.
    """
    if found.reaches:
        raise DeviceError(
            f"the door must have no network, and has {found}; it does not start. {REMEDY}. "
            "A door that is started by hand, without --no-network, serves all the same"
        )
    if not found.complete:
        log.error("the door must have no network, and has %s; it serves. %s", found, REMEDY)
    return found.complete


_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET)


def _make(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def _can(make: Callable[[int, int], object], family: int) -> bool:
    try:
        make(family, socket.SOCK_DGRAM)
    except OSError:
        return False
    return True


def _interfaces(process: Path) -> tuple[str, ...]:
    try:
        lines = plain_text(process / "net" / "dev").splitlines()[2:]
    except OSError as err:
        raise DeviceError(
            f"nobody knows whether the door has a network: {process}/net/dev: {why(err)}"
        ) from err
    names = (line.partition(":")[0].strip() for line in lines)
    return tuple(name for name in names if name and name not in _IN_EVERY_NAMESPACE)


def _processes(proc: Path) -> Iterator[Path]:
    try:
        numbers = sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit())
    except OSError:
        return
    yield from (proc / str(number) for number in numbers)
