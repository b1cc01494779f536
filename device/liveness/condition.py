"""Says whether the detector can judge an utterance: it was trained and calibrated within these limits.

Speech outside is neither live nor not live: the person is asked again, told what would help, and the attempt
counts, so that nobody can search for a condition in which the detector is blind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device.audio.utterance import Quality


class Blindness(StrEnum):
    """Why the detector cannot know."""

    TOO_SHORT = "too_short"
    TOO_NOISY = "too_noisy"
    NARROW_BAND = "narrow_band"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Within these the detector's error rates hold (docs/adr/0012)."""

    min_speech_s: float = 0.6
    min_snr_db: float = 12.0
    min_bandwidth_hz: float = 4_400.0


def blindness(quality: Quality, known: Conditions) -> tuple[Blindness, str] | None:
    """Why `quality` lies outside, and in which words; None when it lies inside. NaN lies outside."""
    if not quality.speech_s >= known.min_speech_s:
        return Blindness.TOO_SHORT, f"{quality.speech_s:.1f} s of speech, {known.min_speech_s:.1f} s needed"
    if not quality.snr_db >= known.min_snr_db:
        return (
            Blindness.TOO_NOISY,
            f"{quality.snr_db:.0f} dB above noise, {known.min_snr_db:.0f} dB needed",
        )
    if not quality.bandwidth_hz >= known.min_bandwidth_hz:
        return (
            Blindness.NARROW_BAND,
            f"nothing above {quality.bandwidth_hz:.0f} Hz, {known.min_bandwidth_hz:.0f} Hz needed",
        )
    return None
