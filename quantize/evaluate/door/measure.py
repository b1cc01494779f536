"""Runs the door's checks on every sound once and keeps the measurements, so that a second run takes seconds.

It keeps scores before calibration, embeddings and quality, of development speech, and no sound. The file is
named for the networks that measured; a line is used only for the very same sound.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile

from device.audio import AudioSettings, QualityError, load_utterance
from device.audio.spoiled import clicks, coughs
from device.audio.spoiled.block_edges import break_on_a_grid
from device.audio.utterance import SAMPLE_RATE_HZ, Quality, Wave
from device.errors import DeviceError
from device.evidence import second_hearing
from device.evidence.phrase import PhraseScore
from device.evidence.voice import in_noise
from device.evidence.voice.copies import MADE, makes, of_recording
from device.liveness.context import ContextChecks
from device.liveness.joins import SHAPES
from device.models.second_words import SecondWords
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector, SpoofScores
from device.models.words.transcriber import Transcriber
from quantize.errors import QuantizeError
from quantize.evaluate.checks.opened import spoof_code
from quantize.evaluate.door.heard import Condition, Surroundings, heard
from quantize.evaluate.recordings.manifest import Recording
from sync.plain_file import LARGE_BYTES, plain_text

Embedding = npt.NDArray[np.float32]
HEARD = "what stands out of noise"
"""How the judge hears a voice; measurements that were kept under another name are made again."""


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """The door's own checks, opened."""

    words: Transcriber
    speaker: SpeakerModel
    spoof: SpoofDetector
    second_words: SecondWords | None = None
    """What hears words once more, where the bundle has it."""
    context: ContextChecks | None = None
    """The evidence for joins; without a memory, since nothing was heard before."""

    def measure_version(self) -> str:
        """A hash of everything that decides a measurement, and of nothing that only weighs it."""
        card = self.spoof.card
        norms = b"".join(getattr(card.norms, name).tobytes() for name in card.norms.__slots__)
        parts = [self.words.version, self.speaker.version, card.sha256, card.envelopes_sha256, HEARD]
        parts.append(spoof_code())
        parts += [] if self.second_words is None else [self.second_words.version]
        joins = b""
        if self.context is not None:
            members = self.context.network.members
            joins = b"".join(getattr(one, name).tobytes() for one in members for name in SHAPES)
        return hashlib.sha256("\n".join(parts).encode() + norms + joins).hexdigest()[:16]


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
    copies: Embedding | None = None
    """The mean of its copies in rooms; of enrolment recordings alone."""
    live: tuple[SpoofScores, ...] = ()
    phrase: PhraseScore | None = None
    """Of the recording's own text; None where it was not asked."""
    again: PhraseScore | None = None
    """The same by the larger words model alone, where that may be asked."""
    joins: float | None = None
    """How much it is like one go; None where nobody looked."""
    uncoughed: float | None = None
    """The same without its coughs, where there are any."""
    coughs: int = 0
    broken: bool = False
    """Whether it breaks off on the grid of one block size."""
    even_clicks: bool = False
    """Whether there is a click in every pause."""
    unclicked: tuple[SpoofScores, ...] = ()
    """`live` without the clicks in its pauses, where there are any and not in every one."""

    def line(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "refused": self.refused,
            "complaint": self.complaint,
            "quality": None if self.quality is None else asdict(self.quality),
            "said_s": self.said_s,
            "embedding": _packed(self.embedding),
            "copies": _packed(self.copies),
            "live": [_scores(one) for one in self.live],
            "phrase": None if self.phrase is None else asdict(self.phrase),
            "again": None if self.again is None else asdict(self.again),
            "joins": self.joins,
            "uncoughed": self.uncoughed,
            "coughs": self.coughs,
            "broken": self.broken,
            "even_clicks": self.even_clicks,
            "unclicked": [_scores(one) for one in self.unclicked],
        }

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Self:
        """From `line`."""
        return cls(
            line["refused"],
            line["complaint"],
            None if line["quality"] is None else Quality(**line["quality"]),
            line["said_s"],
            _unpacked(line["embedding"]),
            _unpacked(line.get("copies")),
            tuple(SpoofScores(**one) for one in line["live"]),
            None if line["phrase"] is None else PhraseScore(**line["phrase"]),
            None if line["again"] is None else PhraseScore(**line["again"]),
            line.get("joins"),
            line.get("uncoughed"),
            line.get("coughs", 0),
            line.get("broken", False),
            line.get("even_clicks", False),
            tuple(SpoofScores(**one) for one in line.get("unclicked", ())),
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

    @property
    def enrols(self) -> bool:
        """Whether this is an enrolment: nothing is asked but the voice."""
        return self.voice and not (self.words or self.live)


@dataclass(slots=True)
class Measurements:
    """Measures on demand, but not what `folder` has already."""

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
        asked = (ask.words, ask.voice, ask.live, *([MADE] if ask.enrols else []))
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
        measured = Measured(
            quality=utterance.quality,
            said_s=utterance.speech_end_s - utterance.speech_start_s,
            embedding=self._voice(wave, utterance.quality, ask) if ask.voice else None,
            copies=self._copies(wave) if ask.enrols else None,
            live=tuple(self.checks.spoof.scores(wave)) if ask.live else (),
            phrase=phrase,
            again=None if phrase is None else self._again(wave, recording.text, phrase),
        )
        return self._disturbed(wave, measured) if ask.live else measured

    def _disturbed(self, wave: Wave, measured: Measured) -> Measured:
        """With the evidence for joins, and with what may lie over the speech; the door looks for most of it
        only where a check falls short."""
        places = clicks.clicks(wave)
        even = len(places) > 0 and clicks.evenly(wave, places)
        measured = replace(measured, broken=break_on_a_grid(wave), even_clicks=even)
        if len(places) and not even:
            unclicked = tuple(self.checks.spoof.scores(clicks.without(wave, places)))
            measured = replace(measured, unclicked=unclicked)
        if self.checks.context is None:
            return measured
        network, spans = self.checks.context.network, coughs.coughs(wave)
        return replace(
            measured,
            coughs=len(spans),
            joins=network(wave).score,
            uncoughed=network(coughs.without(wave, spans)).score if spans else None,
        )

    def _again(self, wave: Wave, text: str, first: PhraseScore) -> PhraseScore | None:
        second = self.checks.second_words
        if second is None or not second_hearing.asked(first.llr):
            return None
        return second.score(wave, text)

    def _copies(self, wave: Wave) -> Embedding | None:
        speaker = self.checks.speaker
        return of_recording(speaker, wave) if makes(speaker.version) else None

    def _voice(self, wave: Wave, quality: Quality, ask: Ask) -> Embedding:
        """As enrolment hears it where nothing is asked but the voice, else as the judge does."""
        if ask.enrols:
            return self.checks.speaker.embed(wave)
        return in_noise.heard(self.checks.speaker, quality, wave)


def _packed(embedding: Embedding | None) -> str | None:
    return None if embedding is None else base64.b64encode(embedding.tobytes()).decode()


def _unpacked(text: str | None) -> Embedding | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), np.float32)


def wav(wave: npt.NDArray[np.float32]) -> bytes:
    """`wave` (n,) as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1.0, 32767 / 32768), SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()
