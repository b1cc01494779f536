"""A unit in a world that a test can move: clocks, counters, the disk, power cuts, people with scores."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from device.access.challenge import Challenge
from device.access.controller import AccessController
from device.access.decision import Decision
from device.access.memory.history import History
from device.access.rules import Rules
from device.audio.utterance import Quality
from device.clock import Now
from device.evidence.gallery import Identification
from device.evidence.judge import Evidence, Timings
from sync.events import pseudonym

GOOD = Quality(speech_s=3.0, snr_db=25.0, clipped_fraction=0.0, level_dbfs=-20.0, bandwidth_hz=7_000.0)
MORNING = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def mac(purpose: str, message: bytes) -> bytes:
    return hmac.digest(b"this unit's secret", purpose.encode() + b"\0" + message, hashlib.sha256)


def evidence(
    phrase: float = 8.0,
    voice: float | None = 8.0,
    live: float = 4.0,
    transcript: str = "",
    quality: Quality = GOOD,
) -> Evidence:
    return Evidence(phrase, voice, live, transcript, quality, Timings(1.0, 1.0, 1.0, 1.0), ("w1", "s1", "p1"))


@dataclass
class NvCounter:
    """Counts like TPM NV: it outlives the process."""

    now: int = 1

    def value(self) -> int:
        return self.now

    def advance(self) -> int:
        self.now += 1
        return self.now


@dataclass
class World:
    """One unit and its surroundings. `reboot` drops everything that was in memory."""

    folder: Path
    rules: Rules
    unit: str = "site-1/unit-1"
    enrolled: set[str] = field(default_factory=lambda: {"ANNA", "BRUNO"})
    counter: NvCounter = field(default_factory=NvCounter)
    wall: datetime = MORNING
    monotonic_s: float = 50.0
    alike_llr: float = -9.0
    comparing_raises: BaseException | None = None
    compares_voices: bool = True

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.history = History(
            self.folder / "history", self.counter, mac, opened_s=self.monotonic_s, phrase_horizon=64
        )
        self.controller = AccessController(
            self.unit,
            self.rules,
            self.history,
            mac,
            enrolled=lambda uid: uid in self.enrolled,
            same_voice_llr=self._same_voice_llr if self.compares_voices else None,
            pseudonym=lambda uid: str(pseudonym(b"k" * 32, uid)),
        )

    def _same_voice_llr(self, first: str, second: str) -> float:
        if self.comparing_raises is not None:
            raise self.comparing_raises
        return self.alike_llr

    def reboot(self) -> None:
        self.history.close()
        self.monotonic_s = 3.0
        self.start()

    @property
    def now(self) -> Now:
        return Now(self.wall, self.monotonic_s)

    def later(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.monotonic_s += seconds

    def greet(self, uid: str = "ANNA", door: str = "ward") -> Challenge | Decision:
        return self.controller.greet(door, uid, self.now)

    def answer(
        self,
        challenge: Challenge,
        heard: Evidence | BaseException,
        *,
        uid: str = "ANNA",
        door: str = "ward",
    ) -> Decision:
        return self.controller.decide(
            challenge,
            heard,
            self.now,
            door=door,
            uid=uid,
            speech_began_s=self.monotonic_s,
        )

    def attempt(
        self,
        uid: str = "ANNA",
        door: str = "ward",
        heard: Evidence | BaseException | None = None,
        identified: Identification | None = None,
    ) -> Decision:
        """Greet, speak two seconds later, decide."""
        challenge = self.greet(uid, door)
        if isinstance(challenge, Decision):
            return challenge
        self.later(2.0)
        heard = heard or evidence()
        if identified is not None and isinstance(heard, Evidence):
            heard = replace(heard, identified=identified, speaker_llr=identified.llr)
        return self.answer(challenge, heard, uid=uid, door=door)


def with_door(rules: Rules, name: str, **change: object) -> Rules:
    """The same rules with one door changed."""
    return replace(rules, doors={**rules.doors, name: replace(rules.doors[name], **change)})
