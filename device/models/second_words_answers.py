"""What the larger words model must answer to a known recording, as the release's machine gave it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from device.evidence.judge import Wave
from device.model_store.answers import WordsAnswer
from device.model_store.manifest import BundleError
from device.models.words.transcriber import Transcriber

ANSWERS_ROLE = "words-base-answers"
FORMAT = 1
MAX_ANSWERS_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SecondAnswers:
    """LLRs by recording and phrase, of the networks in `files`, and how far one may be off."""

    files: Mapping[str, str]
    """SHA-256 by role."""
    recordings: Mapping[str, str]
    """SHA-256 by name."""
    words: tuple[WordsAnswer, ...]
    tolerance: float

    def to_bytes(self) -> bytes:
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> SecondAnswers:
        """Raises BundleError for anything but what `to_bytes` writes."""
        try:
            document: dict[str, Any] = json.loads(data)
            words = tuple(
                WordsAnswer(str(one["recording"]), str(one["phrase"]), float(one["llr"]))
                for one in document["words"]
            )
            files = {str(role): str(sha256) for role, sha256 in document["files"].items()}
            recordings = {str(name): str(sha256) for name, sha256 in document["recordings"].items()}
            tolerance = float(document["tolerance"])
            if document["format"] != FORMAT or not words or not 0.0 < tolerance < 2.0:
                raise ValueError("another form")
            if not all(math.isfinite(one.llr) and one.recording in recordings for one in words):
                raise ValueError("values out of range")
            if any(name.startswith("/") or ".." in name.split("/") for name in recordings):
                raise ValueError("a recording outside its package")
            return cls(files, recordings, words, tolerance)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
            raise BundleError(
                f"the answers of the larger words model are damaged ({err}); run `ostiary models build "
                f"--only {ANSWERS_ROLE}`"
            ) from err

    def right(self, model: Transcriber, waves: Mapping[str, Wave]) -> bool:
        """Whether `model` answers so here, each within the tolerance."""
        for name in self.recordings:
            asked = [one for one in self.words if one.recording == name]
            scores = model.scores(waves[name], [one.phrase for one in asked])
            if not all(
                abs(score.llr - one.llr) <= self.tolerance for score, one in zip(scores, asked, strict=True)
            ):
                return False
        return True
