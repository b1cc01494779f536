"""Whether 20 ms of sound may be speech: the WebRTC detector, cheap enough to run all day on a small board."""

from __future__ import annotations

from typing import Protocol

import webrtcvad

from device.audio.utterance import SAMPLE_RATE_HZ, Samples


class SpeechDetector(Protocol):
    """Called with every frame in order; may remember earlier ones."""

    def __call__(self, samples: Samples) -> bool: ...


class VoiceActivity:
    """WebRTC voice activity detection. `aggressiveness` 0 to 3: higher calls less speech.

    It adapts to level and removes any DC offset itself. It also calls many noises speech, which is why
    `quality.py` looks at pitch and signal-to-noise ratio before anything is judged.
    """

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness must be 0 to 3, not {aggressiveness}")
        self._vad = webrtcvad.Vad(aggressiveness)

    def __call__(self, samples: Samples) -> bool:
        """Samples are one frame: int16, shape (320,)."""
        return bool(self._vad.is_speech(samples.tobytes(), SAMPLE_RATE_HZ))
