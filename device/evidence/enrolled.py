"""What was heard of an enrolled person: how good a voiceprint comes of it, what a newer model made of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Quality

Embedding = npt.NDArray[np.float32]
Compare = Callable[[Embedding, Embedding], float]
"""The LLR that two unit embeddings are one voice."""

POOR_PERCENT = 50
"""Below this one more phrase is asked for."""
ENOUGH_SPEECH_S, GOOD_SPEECH_S = 3.0, 8.0
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


@dataclass(slots=True)
class Voices:
    """Of each recording of one person: its unit embedding, how live it sounds, how clear it is."""

    embeddings: list[Embedding] = field(default_factory=list)
    spoof_llrs: list[float] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)

    def worth(self, llr: Compare) -> Worth:
        """As good as the worst of: how much was said, how clear it was, how alike the recordings are."""
        speech_s = sum(quality.speech_s for quality in self.qualities)
        snr_db = min(quality.snr_db for quality in self.qualities)
        parts = (
            (_share(speech_s, ENOUGH_SPEECH_S, GOOD_SPEECH_S), f"only {speech_s:.1f} s of speech in all"),
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


def _overwritten(made: Future[npt.NDArray[np.float32]]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result()[:] = 0.0
