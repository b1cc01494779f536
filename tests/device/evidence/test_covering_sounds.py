"""Buzz that fills the upper band: a person is asked again, and is not told of a band that is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.access.decision import Notice, Reason
from device.access.policy import decide
from device.audio import load_utterance
from quantize.playback import pink
from tests.device.access.test_policy_context import evidence
from tests.device.audio.test_disturbance import level
from tests.speech import Reading

Floats = npt.NDArray[np.float64]


def generator(length: int) -> Floats:
    """A rectifier on an emergency generator, which runs a little fast."""
    at = np.arange(length) / 16_000
    return sum(np.sin(2 * np.pi * 50.8 * n * at + 0.7 * n * n) / np.sqrt(n) for n in range(1, 137))


def telephone(length: int) -> Floats:
    """A GSM telephone beside the cable: an eighth of each frame of 4.6 ms, no burst in one of 26."""
    frames = np.arange(length) / 16_000 * 216.68
    burst = ((frames % 1 < 0.125) & (np.floor(frames) % 26 != 25)).astype(np.float64)
    burst -= burst.mean()
    return burst + 4.0 * np.gradient(burst)


def dimmer(length: int) -> Floats:
    """Light-emitting diodes behind a dimmer of 244 Hz."""
    at = np.arange(length) / 16_000
    return sum(np.sin(2 * np.pi * 244.1 * n * at + n * n) for n in range(1, 29))


@pytest.mark.parametrize("buzz", [generator, telephone, dimmer])
def test_buzz_that_hides_the_upper_band_is_no_narrow_band_and_costs_nobody_an_attempt(
    buzz, reader: list[Reading], tmp_path
) -> None:
    narrow = 0
    for number, reading in enumerate(reader):
        sound, rate_hz = soundfile.read(reading.path, frames=6 * 16_000)
        dice = np.random.default_rng(number)
        made = buzz(len(sound))
        room = pink(len(sound), dice)
        heard = sound + 0.056 * level(sound) * room / np.sqrt(np.square(room).mean())
        heard += 0.1 * level(sound) * made / np.sqrt(np.square(made).mean())
        soundfile.write(tmp_path / "heard.wav", np.clip(heard, -1, 0.999), rate_hz)
        quality = load_utterance(tmp_path / "heard.wav").quality
        narrow += quality.bandwidth_hz < 4_400.0
        decision = decide(evidence(live=-5.0, quality=quality))
        assert decision.code is Reason.DISTURBED, (reading.path, decision)
        assert decision.notice is Notice.NOISE_OVER_WORDS
        assert not decision.counts_as_failure
        quiet = decide(evidence(live=-5.0, quality=replace(quality, steady_lines=0, filled=False)))
        assert quiet.counts_as_failure, "without the buzz it is what it was"
    assert narrow, "some of it is taken for half a band"
