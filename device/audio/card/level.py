"""Raises the sound of a quiet microphone, within limits, by one number for a whole answer.

A converter set too low makes the detector of voices miss soft words, and people who spoke well count as too
quiet. The number changes only between answers, slowly, so a voice's own rise and fall stays as it is. It is
never below 0 dB: what the converter has clipped stays clipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.audio.quality import FLOOR_DBFS, FULL_SCALE
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Samples
from sync.durable import replace_file
from sync.errors import MALFORMED
from sync.plain_file import open_plain

QUIET_DBFS = -40.0
"""Speech that is heard below this is raised ..."""
ENOUGH_DBFS = -32.0
"""... until it is heard here, and not beyond. `python -m bench.checks.level` prints how loud the
development speech is that the checks were calibrated on, and how far raising a quiet recording moves their
scores."""
STEP_DB = 3.0
"""At most so much from one answer to the next."""
PEAK_DBFS = -3.0
"""The loudest sample may be raised to this."""
SPEECH_DB = 12.0
"""So far above the quietest tenth a frame counts as speech ..."""
SPEECH_S = 0.6
"""... and so much of it makes an answer. Shorter sounds teach nothing."""
MAX_FRAMES = 30 * SAMPLE_RATE_HZ // FRAME_SAMPLES
WEAK_DBFS = -50.0
"""Speech below this, before it is raised, is nearly too quiet to be judged: `ostiary doctor` says so."""
_MAX_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class LevelState:
    """How loudly people are heard, and what is done about it."""

    speech_dbfs: float = FLOOR_DBFS
    """Speech of the last answers, as the microphone gives it; FLOOR_DBFS before the first."""
    gain_db: float = 0.0
    """By how much the next answer is raised."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.speech_dbfs) and math.isfinite(self.gain_db) and self.gain_db >= 0.0):
            raise ValueError("the stored microphone level is out of range")

    def __str__(self) -> str:
        if self.speech_dbfs <= FLOOR_DBFS:
            return "nobody was heard yet"
        raised = f", raised by {self.gain_db:.0f} dB" if self.gain_db else ""
        return f"speech {self.speech_dbfs:.0f} dBFS{raised}"

    @property
    def complaint(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        if FLOOR_DBFS < self.speech_dbfs < WEAK_DBFS:
            return f"people are heard at {self.speech_dbfs:.0f} dBFS only, which is too quiet to raise"
        return ""


class InputLevel:
    """Raises what one microphone hears, and learns from each answer. Not for more than one thread."""

    def __init__(
        self, max_db: float, state: LevelState | None = None, keep: Callable[[LevelState], None] | None = None
    ) -> None:
        """`keep` is told a state that the next start should know."""
        found = state or LevelState()
        self._max_db = max_db
        self.state = LevelState(found.speech_dbfs, min(found.gain_db, max_db))
        self._keep = keep or (lambda _: None)
        self._frames_db: list[float] = []
        self._peak = 1.0

    def raised(self, samples: Samples) -> Samples:
        """`samples` (int16, (n,), 16 kHz) as the door hears them: a new array, or the same where nothing
        is raised."""
        self._learn(samples)
        if not self.state.gain_db:
            return samples
        factor = 10.0 ** (self.state.gain_db / 20.0)
        louder = np.rint(samples * np.float32(factor))
        clipped: Samples = np.clip(louder, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        return clipped

    def ended(self) -> None:
        """The answer is over: from here on another number may hold."""
        frames_db, peak = np.array(self._frames_db), self._peak
        self._frames_db, self._peak = [], 1.0
        if not len(frames_db):
            return
        speech_db = frames_db[frames_db > np.percentile(frames_db, 10) + SPEECH_DB]
        if len(speech_db) * FRAME_SAMPLES < SPEECH_S * SAMPLE_RATE_HZ:
            return
        heard_db = float(10.0 * np.log10(np.mean(10.0 ** (speech_db / 10.0))))
        before = self.state
        if before.speech_dbfs > FLOOR_DBFS:  # one whisperer must not set it for everybody
            heard_db = before.speech_dbfs + 0.25 * (heard_db - before.speech_dbfs)
        self.state = LevelState(heard_db, self._next_db(heard_db, 20.0 * math.log10(peak / FULL_SCALE)))
        if self.state.gain_db != before.gain_db or abs(heard_db - before.speech_dbfs) > STEP_DB:
            self._keep(self.state)

    def _next_db(self, heard_db: float, peak_db: float) -> float:
        now_db = self.state.gain_db
        quiet = now_db > 0.0 or heard_db < QUIET_DBFS
        wanted_db = max(0.0, ENOUGH_DBFS - heard_db) if quiet else 0.0
        wanted_db = min(wanted_db, self._max_db, max(0.0, PEAK_DBFS - peak_db))
        return float(round(min(max(wanted_db, now_db - STEP_DB), now_db + STEP_DB)))

    def _learn(self, samples: Samples) -> None:
        whole = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        if len(self._frames_db) >= MAX_FRAMES or not len(whole):
            return
        wave = whole.astype(np.float32) / np.float32(FULL_SCALE)
        wave -= wave.mean(axis=1, keepdims=True)
        power = np.maximum(np.square(wave).mean(axis=1), 10.0 ** (FLOOR_DBFS / 10.0))
        self._frames_db += (10.0 * np.log10(power)).tolist()
        self._peak = max(self._peak, float(np.abs(whole.astype(np.int32)).max()))
        wave[:] = 0.0


def kept(path: Path) -> LevelState:
    """What was kept; a fresh state where there is nothing, or nothing that can be read."""
    try:
        with open_plain(path) as file:
            found: Any = json.loads(file.read(_MAX_BYTES))
        return LevelState(float(found["speech_dbfs"]), float(found["gain_db"]))
    except (OSError, *MALFORMED):
        return LevelState()


def keep(path: Path, state: LevelState) -> None:
    """For the next start, and for `ostiary doctor`. A level that cannot be kept is learned again."""
    try:
        replace_file(path, json.dumps(asdict(state)).encode())
    except OSError:
        return
