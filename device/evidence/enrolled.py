"""What was heard of an enrolled person: how good a voiceprint comes of it, what a newer model made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Quality
from device.evidence.voice.copies import door_vector, makes, of_recording
from device.evidence.voice.held import Voice

Embedding = npt.NDArray[np.float32]
Wave = npt.NDArray[np.float32]
Compare = Callable[[Embedding, Embedding], float]
"""The LLR that two unit embeddings are one voice."""

ENROLMENT_PHRASES = 5
"""What an enrolment asks for. By three, the least, the right person is refused for the voice about one and a
half times as often (docs/adr/0070)."""
POOR_PERCENT = 50
"""Below this one more phrase is asked for."""
ENOUGH_SPEECH_S, GOOD_SPEECH_S = 3.0, 12.0
"""Of all recordings together: worthless with less than the first, as good as can be with the second."""
LEAST_SNR_DB, GOOD_SNR_DB = 8.0, 25.0
"""Of the noisiest recording."""
LEAST_LLR, GOOD_LLR = 0.0, 8.0
"""Of the recording that is least like the others."""


@dataclass(frozen=True, slots=True)
class Worth:
    """How good a voiceprint is, in per cent, and what would make it better; empty when nothing would."""

    percent: int
    why: str

    @property
    def poor(self) -> bool:
        return self.percent < POOR_PERCENT


class Enrols(Protocol):
    """A speaker model, as far as it is needed here."""

    version: str

    def embed(self, wave: Wave) -> Embedding: ...

    def template(self, embeddings: Sequence[Embedding]) -> Embedding: ...


@dataclass(slots=True)
class Voices:
    """Of each recording of one person: its unit embedding, how live it sounds, how clear it is."""

    embeddings: list[Embedding] = field(default_factory=list)
    spoof_llrs: list[float] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)
    copies: list[Embedding] = field(default_factory=list)
    """Of each recording, the mean of its copies in rooms; empty for a speaker model that gets none."""

    @classmethod
    def of(cls, speaker: Enrols, waves: Iterable[Wave]) -> Self:
        """One person's recordings, each as it is and as copies. Raises what `speaker` raises."""
        voices = cls()
        for wave in waves:
            voices.embeddings.append(speaker.embed(wave))
            voices.hear_copies(speaker, wave)
        return voices

    def hear_copies(self, speaker: Enrols, wave: Wave) -> None:
        if makes(speaker.version):
            self.copies.append(of_recording(speaker, wave))

    def voice(self, speaker: Enrols) -> Voice:
        """What an attempt is held against. Raises SpeakerError where the recordings do not fit together."""
        vector = speaker.template(self.embeddings)
        return Voice(vector, speaker.version, door=self.door(), phrases=len(self.embeddings))

    def door(self) -> Embedding | None:
        """The door vector; None where there are no copies."""
        return door_vector(self.embeddings, self.copies) if self.copies else None

    def worth(self, llr: Compare) -> Worth:
        """As good as the worst of: how much was said, in how many phrases, how clear it was, how alike the
        recordings are."""
        speech_s = sum(quality.speech_s for quality in self.qualities)
        snr_db = min(quality.snr_db for quality in self.qualities)
        phrases = len(self.embeddings)
        parts = (
            (_share(speech_s, ENOUGH_SPEECH_S, GOOD_SPEECH_S), f"only {speech_s:.1f} s of speech in all"),
            (
                _share(phrases, 1, ENROLMENT_PHRASES),
                f"{phrases} phrases; with {ENROLMENT_PHRASES} the person is refused less often",
            ),
            (_share(snr_db, LEAST_SNR_DB, GOOD_SNR_DB), f"one recording is only {snr_db:.0f} dB above noise"),
            (
                _share(self._least_alike(llr), LEAST_LLR, GOOD_LLR),
                "one recording differs from the others",
            ),
        )
        share, why = min(parts, key=lambda part: part[0])
        return Worth(round(100 * share), why if share < 1.0 else "")

    def _least_alike(self, llr: Compare) -> float:
        total = np.sum(self.embeddings, axis=0)
        least = np.inf
        for one in self.embeddings:
            others = total - one
            others /= np.linalg.norm(others)
            least = min(least, llr(one, others))
            others[:] = 0.0
        total[:] = 0.0
        return least


def _share(value: float, none: float, whole: float) -> float:
    return min(1.0, max(0.0, (value - none) / (whole - none)))


class HeardByNewer:
    """The same voice as the speaker model that is to follow hears it, still being made."""

    def __init__(self, made: Future[npt.NDArray[np.float32]]) -> None:
        self._made = made

    def take(self, within_s: float) -> npt.NDArray[np.float32] | None:
        """A copy, to be overwritten by who takes it; None where it could not be made in time."""
        try:
            return self._made.result(within_s).copy()
        except Exception:  # noqa: BLE001 - a network that fails keeps nobody out, and nothing grows
            return None
        finally:
            self.drop()

    def drop(self) -> None:
        """Overwrite it, now or when it is made."""
        self._made.add_done_callback(_overwritten)

    def __del__(self) -> None:
        self.drop()  # of a judgement that was thrown away, because speech went on


class HeardVoice:
    """The voice of one attempt, as the model of its voiceprint hears it; take it or drop it."""

    def __init__(self, embedding: Embedding, model: str) -> None:
        self._embedding: Embedding | None = embedding
        self.model = model

    def take(self) -> Embedding | None:
        """The embedding, to be overwritten by who takes it; None where it was taken or dropped."""
        taken, self._embedding = self._embedding, None
        return taken

    def drop(self) -> None:
        """Overwrite it."""
        if (left := self.take()) is not None:
            left[:] = 0.0

    def __del__(self) -> None:
        self.drop()  # of a judgement that was thrown away, because speech went on


def _overwritten(made: Future[npt.NDArray[np.float32]]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result()[:] = 0.0
