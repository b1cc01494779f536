"""Compares a stream with one claimed person: an LLR for every window of speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.audio.buffers import SampleHistory
from device.audio.listen import VoiceActivity
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Samples, to_wave
from device.conversation.hearing import Embedder
from device.conversation.streams.trust import Change, Trust
from device.errors import DeviceError
from device.model_store.calibration import Calibration
from device.models.speaker import Embedding, SpeakerError

WINDOW_S = 1.5
STEP_S = 0.5
LEAST_SPEECH = 0.6
"""Of a window: less of it voiced is silence."""
FITTED_ON = "campplus-int8-f0982ceb"
"""The speaker model whose windows were calibrated."""
WINDOW_CALIBRATION = Calibration(33.48, -12.49)
"""Of one window against a template of three recordings: logistic regression, target prior 0.1, 1,120
windows of the person and 1,098 of others in 36 spliced streams of the half of speakers that calibrations
are fitted on, every other stream in noise at 10 to 20 dB, 2026-11-29."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One step of a stream. `llr` is None while nobody speaks."""

    at_s: float
    llr: float | None
    trust: float
    change: Change | None


class ClaimedSpeaker:
    """Takes a stream's samples in any portions. Belongs to one stream and one thread at a time."""

    def __init__(self, embedder: Embedder, model: str, template: Embedding) -> None:
        """Raises DeviceError for a speaker model that was not measured."""
        if not model.startswith(FITTED_ON):
            raise DeviceError(
                f"short windows of {model} were never calibrated; use the bundle that this software came with"
            )
        self._embedder = embedder
        self._template = template
        self._trust = Trust()
        self._window = int(WINDOW_S * SAMPLE_RATE_HZ)
        self._step = int(STEP_S * SAMPLE_RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES
        self._sound = SampleHistory(self._window)
        self._voiced: list[bool] = []
        self._active = VoiceActivity()
        self._pending: Samples = np.zeros(0, np.int16)
        self._next = self._step

    def push(self, samples: Samples, *, scored: bool = True) -> list[Heard]:
        """Take int16 samples (n,) at 16 kHz; what each step that they complete told. Without `scored`
        every step counts as silence: trust is used up, and no LLR is made."""
        found = []
        self._pending = np.concatenate((self._pending, samples))
        whole = len(self._pending) // FRAME_SAMPLES * FRAME_SAMPLES
        for begin in range(0, whole, FRAME_SAMPLES):
            frame = self._pending[begin : begin + FRAME_SAMPLES]
            self._voiced.append(self._active(frame))
            self._sound.append(frame)
            if self._sound.end >= self._next:
                self._next += self._step
                found.append(self._judge(scored))
        rest = self._pending[whole:].copy()
        self._pending[:] = 0
        self._pending = rest
        return found

    def wipe(self) -> None:
        """Overwrite the sound and the template."""
        self._sound.wipe()
        self._pending[:] = 0
        self._template[:] = 0.0

    def _judge(self, scored: bool) -> Heard:
        self._voiced = self._voiced[-(self._window // FRAME_SAMPLES) :]
        at_s, step_s = self._sound.end / SAMPLE_RATE_HZ, self._step / SAMPLE_RATE_HZ
        enough = self._sound.end >= self._window and np.mean(self._voiced) >= LEAST_SPEECH
        llr = self._llr() if scored and enough else None
        change = self._trust.silent(step_s) if llr is None else self._trust.heard(llr, step_s)
        return Heard(at_s, llr, self._trust.probability, change)

    def _llr(self) -> float | None:
        samples = self._sound.copy(self._sound.begin)
        wave = to_wave(samples)
        samples[:] = 0
        try:
            if not np.any(wave):
                return None
            return WINDOW_CALIBRATION.llr(float(self._embedder.embed(wave) @ self._template))
        except SpeakerError:
            return None
        finally:
            wave[:] = 0.0
