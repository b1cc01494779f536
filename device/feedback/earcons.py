"""Short tones for the state: rising opens, falling refuses, one note asks to speak."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.own_tone import OwnTones
from device.audio.utterance import SAMPLE_RATE_HZ, Samples


class Earcon(StrEnum):
    """What a tone means."""

    SPEAK_NOW = "speak_now"
    OPEN = "open"
    TRY_AGAIN = "try_again"
    REFUSED = "refused"
    FAULT = "fault"


# (frequency in Hz, seconds); 0 Hz is a rest. All between 500 and 2,000 Hz, where age takes little hearing
# away.
_NOTES = {
    Earcon.SPEAK_NOW: ((880.0, 0.12),),
    Earcon.OPEN: ((659.3, 0.10), (880.0, 0.10), (1318.5, 0.18)),
    Earcon.TRY_AGAIN: ((880.0, 0.09), (0.0, 0.06), (880.0, 0.09)),
    Earcon.REFUSED: ((659.3, 0.14), (523.3, 0.26)),
    Earcon.FAULT: ((523.3, 0.12), (0.0, 0.08), (523.3, 0.12), (0.0, 0.08), (523.3, 0.12)),
}
TONE_S = 0.3
"""So long the microphone takes nothing for speech, because of the door's own tone and its way to the ear;
longer where the tone is heard later."""
_LEVEL = 0.25  # of full scale
_RAMP_S = 0.008  # against clicks


def own_tones() -> OwnTones:
    """The tones that a microphone beside the loudspeaker will hear."""
    (asks,) = _NOTES[Earcon.SPEAK_NOW]
    every = {hz for notes in _NOTES.values() for hz, _ in notes if hz}
    return OwnTones(*asks, TONE_S, tuple(sorted(every)))


@cache
def waveform(earcon: Earcon) -> Samples:
    """The tone as int16 mono at 16 kHz, read-only."""
    parts = [_note(frequency_hz, seconds) for frequency_hz, seconds in _NOTES[earcon]]
    samples: Samples = np.round(np.concatenate(parts) * _LEVEL * 32767).astype(np.int16)
    samples.flags.writeable = False
    return samples


def _note(frequency_hz: float, seconds: float) -> npt.NDArray[np.float64]:
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    ramp = np.minimum(1.0, np.minimum(time_s, time_s[-1] - time_s) / _RAMP_S)
    tone: npt.NDArray[np.float64] = np.sin(2 * np.pi * frequency_hz * time_s) * ramp
    return tone
