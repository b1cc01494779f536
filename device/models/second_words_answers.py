"""What the larger words model must answer to a known recording, as the release's machine gave it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from device.audio.utterance import Wave
from device.model_store.answers import WordsAnswer, common_parts
from device.model_store.manifest import BundleError
from device.models.words.transcriber import Transcriber
from sync.errors import MALFORMED
from sync.plain_words import malformed

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
            if len(data) > MAX_ANSWERS_BYTES:
                raise ValueError("too large")
            document: dict[str, Any] = json.loads(data)
            files, recordings, words = common_parts(document)
            tolerance = float(document["tolerance"])
            if document["format"] != FORMAT or not words or not 0.0 < tolerance < 2.0:
                raise ValueError("another form")
            if not all(one.recording in recordings for one in words):
                raise ValueError("an answer about a recording that is not named")
            return cls(files, recordings, words, tolerance)
        except MALFORMED as err:
            raise BundleError(
                f"the answers of the larger words model are damaged ({malformed(err)}); run `ostiary models "
                f"build --only {ANSWERS_ROLE}`"
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
