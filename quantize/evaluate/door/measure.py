"""What the door's checks make of every sound, measured once and kept: a second look takes seconds.

Kept are scores before calibration, embeddings and quality, no sound. They are of development speech; the
file says of which networks, and a line is used only for the very same sound.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile

from device.audio import AudioSettings, QualityError, load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Quality
from device.errors import DeviceError
from device.evidence import second_hearing, voice_in_noise
from device.evidence.phrase import PhraseScore
from device.models.second_words import SecondWords
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector, SpoofScores
from device.models.words.transcriber import Transcriber
from quantize.errors import QuantizeError
from quantize.evaluate.door.heard import Condition, Surroundings, heard
from quantize.evaluate.recordings.manifest import Recording
from sync.plain_file import LARGE_BYTES, plain_text

Embedding = npt.NDArray[np.float32]
Wave = npt.NDArray[np.float32]
HEARD = "what stands out of noise"
"""How the judge hears a voice: what was kept when it heard otherwise is measured again."""


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """The door's own checks, opened."""

    words: Transcriber
    speaker: SpeakerModel
    spoof: SpoofDetector
    second_words: SecondWords | None = None
    """What hears words once more, where the bundle has it."""

    def measure_version(self) -> str:
        """Names everything that decides a measurement, and nothing that only weighs it."""
        card = self.spoof.card
        norms = b"".join(getattr(card.norms, name).tobytes() for name in card.norms.__slots__)
        parts = [self.words.version, self.speaker.version, card.sha256, card.envelopes_sha256, HEARD]
        parts += [] if self.second_words is None else [self.second_words.version]
        return hashlib.sha256("\n".join(parts).encode() + norms).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One sound as the door's checks have it. `refused` is the audio checks' code where they turn it away;
    then nothing else is there.
    """

    refused: str = ""
    complaint: str = ""
    quality: Quality | None = None
    said_s: float = 0.0
    """From the first to the last voiced frame."""
    embedding: Embedding | None = None
    live: tuple[SpoofScores, ...] = ()
    phrase: PhraseScore | None = None
    """Of the recording's own text; None where it was not asked."""
    again: PhraseScore | None = None
    """The same by the larger words model alone, where that may be asked."""

    def line(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "refused": self.refused,
            "complaint": self.complaint,
            "quality": None if self.quality is None else asdict(self.quality),
            "said_s": self.said_s,
            "embedding": None if self.embedding is None else _packed(self.embedding),
            "live": [_scores(one) for one in self.live],
            "phrase": None if self.phrase is None else asdict(self.phrase),
            "again": None if self.again is None else asdict(self.again),
        }

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Self:
        """From `line`."""
        packed = line["embedding"]
        return cls(
            line["refused"],
            line["complaint"],
            None if line["quality"] is None else Quality(**line["quality"]),
            line["said_s"],
            None if packed is None else _unpacked(packed),
            tuple(SpoofScores(**one) for one in line["live"]),
            None if line["phrase"] is None else PhraseScore(**line["phrase"]),
            None if line["again"] is None else PhraseScore(**line["again"]),
        )


def _scores(live: SpoofScores) -> dict[str, float]:
    """Without the print: what is kept here is weighed, and compared with nobody."""
    return {name: value for name, value in asdict(live).items() if name != "print_values"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What to measure of one recording under one condition, besides its quality."""

    recording: Recording
    condition: Condition
    words: bool = False
    voice: bool = True
    live: bool = True


@dataclass(slots=True)
class Measurements:
    """Measures on demand; what is in `folder` already is not measured again."""

    checks: Checks
    around: Surroundings
    folder: Path | None = None
    settings: AudioSettings = field(default_factory=AudioSettings)
    _known: dict[str, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (file := self._file()) is not None and file.exists():
            for row in plain_text(file, LARGE_BYTES).splitlines():
                line = json.loads(row)
                self._known[line["key"]] = Measured.of_line(line)

    def _file(self) -> Path | None:
        name = f"measured-{self.checks.measure_version()}.jsonl"
        return None if self.folder is None else self.folder / name

    def all(self, asks: Iterable[Ask], progress: Callable[[], None]) -> dict[Ask, Measured]:
        """Every ask with what was measured. Raises QuantizeError for a file that is no speech at all."""
        found = {}
        for ask in asks:
            try:
                found[ask] = self._one(ask)
            except DeviceError as err:
                raise QuantizeError(f"{ask.recording.path} cannot be judged: {err}") from err
            progress()
        return found

    def _one(self, ask: Ask) -> Measured:
        key = self._key(ask)
        if key not in self._known:
            measured = self._measure(ask)
            self._known[key] = measured
            if (file := self._file()) is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"key": key, **measured.line()}) + "\n")
        return self._known[key]

    def _key(self, ask: Ask) -> str:
        path = self.around.root / ask.recording.path
        sound = (ask.recording.path, path.stat().st_size, repr(ask.condition), ask.recording.text)
        asked = (ask.words, ask.voice, ask.live)
        return hashlib.sha256(repr((sound, asked, self.around.sha256())).encode()).hexdigest()

    def _measure(self, ask: Ask) -> Measured:
        recording = ask.recording
        wave = heard(
            self.around.wave(recording.path), recording.path, recording.speaker, ask.condition, self.around
        )
        try:
            utterance = load_utterance(wav(wave), self.settings)
        except QualityError as err:
            return Measured(refused=err.code, complaint=str(err))
        wave = utterance.wave()
        phrase = self.checks.words.score(wave, recording.text) if ask.words else None
        return Measured(
            quality=utterance.quality,
            said_s=utterance.speech_end_s - utterance.speech_start_s,
            embedding=self._voice(wave, utterance.quality, ask) if ask.voice else None,
            live=tuple(self.checks.spoof.scores(wave)) if ask.live else (),
            phrase=phrase,
            again=None if phrase is None else self._again(wave, recording.text, phrase),
        )

    def _again(self, wave: Wave, text: str, first: PhraseScore) -> PhraseScore | None:
        second = self.checks.second_words
        if second is None or not second_hearing.asked(first.llr):
            return None
        return second.score(wave, text)

    def _voice(self, wave: Wave, quality: Quality, ask: Ask) -> Embedding:
        """As enrolment hears it where nothing is asked but the voice, else as the judge does."""
        if not (ask.words or ask.live):
            return self.checks.speaker.embed(wave)
        return voice_in_noise.heard(self.checks.speaker, quality, wave)


def _packed(embedding: Embedding) -> str:
    return base64.b64encode(embedding.tobytes()).decode()


def _unpacked(text: str) -> Embedding:
    return np.frombuffer(base64.b64decode(text), np.float32)


def wav(wave: npt.NDArray[np.float32]) -> bytes:
    """`wave` (n,) as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1.0, 32767 / 32768), SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()
