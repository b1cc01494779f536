"""Compares attempts with the threats that this unit was warned of.

A list comes from the registry through the uplink. It is used while it is in force, and of it only what this
door's own people do not resemble: an attacker gains nothing by a list that is made against a person at this
door.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from device.errors import DeviceError
from sync.durable import replace_file
from sync.errors import MalformedError
from sync.plain_file import open_plain
from sync.plain_words import why
from sync.threats.listed import MAX_LIST_BYTES, Threat, ThreatList
from sync.threats.prints import MODEL, VALUES, likeness

OWN_LIKENESS = 550
"""Thousandths that an attempt needs itself where those before it are counted with it: whose badge was tried
by an attacker a minute ago is not taken for one."""
MORE_TOGETHER = 20
"""Thousandths: what several attempts have in common has to be so much more alike to a threat than one."""
HONEST = 256
"""Prints of granted attempts that this unit remembers: of no person and no time."""
HONEST_LEAST = 3
HONEST_SHARE = 0.01
"""A threat that more of them resemble than either allows is not used here."""


@dataclass(frozen=True, slots=True)
class Match:
    """An attempt resembles a campaign: its number in the registry, and how much, from -1 to 1."""

    campaign: int
    likeness: float

    def scores(self) -> dict[str, float]:
        """By the names of the event's vocabulary."""
        return {"campaign": float(self.campaign), "campaign_likeness": self.likeness}


def resembles(threat: Threat, print_values: bytes, together: bytes = b"") -> float:
    """How alike an attempt is to a threat, by itself or, less MORE_TOGETHER, with those before it."""
    alone = likeness(print_values, threat.values)
    if len(together) != VALUES or 1000 * alone < OWN_LIKENESS:
        return alone
    return max(alone, likeness(together, threat.values) - MORE_TOGETHER / 1000)


class KnownAttacks:
    """One list, in a file that only the door process writes. Thread-safe."""

    def __init__(self, folder: Path, now_ms: Callable[[], int]) -> None:
        """`folder` is the door process's own; it is made when something is kept."""
        # Prints of another kind are like none of these: what they remembered of people is left, and goes.
        self._list, self._honest = folder / "threats", folder / f"granted-{MODEL}"
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._ours = self._read()
        self._people = self._remembered()
        self._unused = self._too_honest()

    @property
    def version(self) -> int:
        """Of the list held; 0 when there is none."""
        return self._ours.version if self._ours is not None else 0

    def in_force(self) -> ThreatList | None:
        """The list, unless it has expired."""
        ours = self._ours
        return ours if ours is not None and self._now_ms() < ours.expires_ms else None

    def match(self, print_values: bytes, together: bytes = b"") -> Match | None:
        """What these are most alike to, if they are alike enough to anything that is in force. `together` is
        what they have in common with the prints before them, which may make up for what one alone lacks."""
        ours = self.in_force()
        if ours is None or ours.model != MODEL or len(print_values) != VALUES:
            return None
        best: Match | None = None
        for threat in ours.threats:
            if threat.number in self._unused:
                continue
            alike = resembles(threat, print_values, together)
            if 1000 * alike >= threat.likeness and (best is None or alike > best.likeness):
                best = Match(threat.number, alike)
        return best

    def adopt(self, data: bytes) -> tuple[int, int]:
        """Take a newer list, whole or not at all; (threats used, threats that resemble this door's
        people). Raises DeviceError. The same list again changes nothing."""
        try:
            made = ThreatList.from_bytes(data)
        except MalformedError as err:
            raise DeviceError(f"this is no list of threats: {err}") from err
        with self._lock:
            if made.version < self.version:
                raise DeviceError(f"list {made.version} of threats is older than list {self.version}")
            if made.expires_ms <= self._now_ms():
                raise DeviceError("this list of threats has expired")
            if made.version > self.version:
                self._write(self._list, data)
                self._ours = made
            self._unused = self._too_honest()
            return len(made.threats) - len(self._unused), len(self._unused)

    def granted(self, print_values: bytes) -> None:
        """Remember how a granted attempt was seen; it counts once it is kept."""
        if len(print_values) == VALUES:
            with self._lock:
                self._people.append(print_values)

    def keep(self) -> None:
        """Put what was remembered on the disk, in no order that tells of time."""
        with self._lock:
            shuffled = list(self._people)
            self._unused = self._too_honest()
        random.SystemRandom().shuffle(shuffled)
        self._write(self._honest, b"".join(shuffled))
        for older in self._honest.parent.glob("granted-*"):
            if older != self._honest:
                with suppress(OSError):
                    older.unlink()

    def _too_honest(self) -> frozenset[int]:
        ours = self._ours
        if ours is None or ours.model != MODEL:
            return frozenset()
        allowed = max(HONEST_LEAST - 1, int(HONEST_SHARE * len(self._people)))
        return frozenset(
            threat.number
            for threat in ours.threats
            if sum(1000 * likeness(one, threat.values) >= threat.likeness for one in self._people) > allowed
        )

    def _read(self) -> ThreatList | None:
        with suppress(OSError, MalformedError), open_plain(self._list) as file:
            return ThreatList.from_bytes(file.read(MAX_LIST_BYTES + 1))
        return None  # a damaged list warns of nothing; the registry sends another

    def _remembered(self) -> deque[bytes]:
        data = b""
        with suppress(OSError), open_plain(self._honest) as file:
            data = file.read(HONEST * VALUES)
        whole = [data[at : at + VALUES] for at in range(0, len(data) - VALUES + 1, VALUES)]
        return deque(whole, maxlen=HONEST)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, data)
        except OSError as err:
            raise DeviceError(f"{path.name} cannot be kept ({why(err)})") from err
