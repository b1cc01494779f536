"""Speech for the memory: real readings, playbacks of them, and one professional who repeats herself."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.audio import load_utterance
from tests.speech import missing

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

Wave = npt.NDArray[np.float32]


def mac(purpose: str, message: bytes) -> bytes:
    return hmac.digest(b"this unit's secret", purpose.encode() + b"\0" + message, hashlib.sha256)


def speech(path: Path) -> Wave:
    """What the door would hear of a recording."""
    return load_utterance(path).wave()


def prompt(name: str) -> Wave:
    """One prompt of the professional."""
    path = PROMPTS / f"{name}.wav"
    if not path.is_file():
        missing(str(path), "asterisk-core-sounds-en-wav")
    return speech(path)


def noise(seconds: float, seed: int = 1, level: float = 0.1) -> Wave:
    """White noise (n,): unlike any other seed's."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * 16_000))).astype(np.float32)
