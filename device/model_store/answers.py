"""What a bundle's models must answer to known recordings: the content of its `self-test.json`.

Recordings are those of a Debian package, named by their place in it and their SHA-256. Answers are LLRs as
the release's machine gave them, with how far another processor may be from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from device.model_store.manifest import BundleError
from sync.errors import MALFORMED
from sync.plain_words import malformed

FORMAT = 1
ROLE = "self-test"
MAX_ANSWERS_BYTES = 64 * 1024
CHECKS = {
    "words": ("words-encoder", "words"),
    "voice": ("speaker",),
    "live": ("spoof", "spoof-card", "spoof-envelopes"),
}
"""Each check of a judgement, and the roles whose files answer it."""


@dataclass(frozen=True, slots=True)
class WordsAnswer:
    """LLR that `phrase` was said in `recording`."""

    recording: str
    phrase: str
    llr: float


@dataclass(frozen=True, slots=True)
class VoiceAnswer:
    """LLR that `recording` is the voice of the recordings `enrolled`."""

    enrolled: tuple[str, ...]
    recording: str
    llr: float


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """LLRs of a live human in `recording`, by kind of attack."""

    recording: str
    llrs: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that a self-test asks, and what must come."""

    reference: str
    """Class of processor, versions and date of the machine that answered."""
    files: Mapping[str, str]
    """SHA-256 of the file of each role that answered."""
    recordings: Mapping[str, str]
    """SHA-256 by name."""
    tolerance: Mapping[str, float]
    """By check: the largest difference of an LLR that another processor may show."""
    words: tuple[WordsAnswer, ...]
    voice: tuple[VoiceAnswer, ...]
    live: tuple[LiveAnswer, ...]

    def to_bytes(self) -> bytes:
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Answers:
        """Raises BundleError for anything but what `to_bytes` writes."""
        try:
            if len(data) > MAX_ANSWERS_BYTES:
                raise ValueError("too large")
            document = json.loads(data)
            if document.pop("format") != FORMAT:
                raise BundleError(
                    "the bundle's self-test has a form this unit does not know; update the unit"
                )
            name = recording_name
            files, recordings, words = common_parts(document)
            voice = tuple(
                VoiceAnswer(tuple(map(name, one["enrolled"])), name(one["recording"]), _number(one["llr"]))
                for one in document["voice"]
            )
            live = tuple(
                LiveAnswer(name(one["recording"]), _numbers(one["llrs"])) for one in document["live"]
            )
            found = cls(
                str(document["reference"]), files, recordings, _numbers(document["tolerance"]),
                words, voice, live,
            )  # fmt: skip
            if not (found.words and found.voice and found.live) or set(found.tolerance) != set(CHECKS):
                raise ValueError("a check has no answers or no tolerance")
            if min(found.tolerance.values()) <= 0.0:
                raise ValueError("a tolerance must be above zero")
            return found
        except MALFORMED as err:
            raise BundleError(
                f"the bundle's self-test is damaged ({malformed(err)}); run `ostiary models build`"
            ) from err


def common_parts(
    document: Mapping[str, Any],
) -> tuple[dict[str, str], dict[str, str], tuple[WordsAnswer, ...]]:
    """SHA-256 of files by role and of recordings by name, and the answers of a words model. Raises
    ValueError, TypeError, KeyError or AttributeError where they are anything else."""
    words = tuple(
        WordsAnswer(recording_name(one["recording"]), str(one["phrase"]), _number(one["llr"]))
        for one in document["words"]
    )
    files = {str(role): str(sha256) for role, sha256 in document["files"].items()}
    recordings = {recording_name(name): str(sha256) for name, sha256 in document["recordings"].items()}
    return files, recordings, words


def recording_name(given: Any) -> str:
    """A recording's path inside its package. Raises ValueError for one that leads elsewhere."""
    name = str(given)
    if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
        raise ValueError("a recording outside its package")
    return name


def _number(given: Any) -> float:
    value = float(given)
    if not math.isfinite(value):
        raise ValueError("an answer that is not finite")
    return value


def _numbers(given: Any) -> dict[str, float]:
    return {str(name): _number(value) for name, value in given.items()}
