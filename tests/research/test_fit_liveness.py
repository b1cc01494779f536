"""The trials that the weights of the context checks are fitted on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.recordings.manifest import Recording
from research.fits.liveness import Heard, constancy

HALF = 3 * 16_000
"""Samples in half of a recording, all of it speech."""


class Levels:
    """Hears a voice as how loud it is."""

    def embed(self, wave: np.ndarray) -> np.ndarray:
        return wave[:1].copy()


def said(speaker: str, level: float) -> Heard:
    """As loud as `level`, and in its second half as loud as everybody's."""
    wave = np.repeat(np.array([level, 1.0], np.float32), HALF)
    recording = Recording(f"{speaker}/{level}.wav", "bonafide", speaker, "", "", "", "")
    utterance = SimpleNamespace(speech_start_s=0.0, speech_end_s=2 * HALF / 16_000)
    return Heard(recording, wave, utterance, None)  # type: ignore[arg-type]


def test_every_splice_counts_for_the_speaker_who_begins_it() -> None:
    heard = [said("ada", 0.1), said("ada", 0.2), said("bea", 0.3), said("cyd", 0.4)]
    speaker = {round(float(one.wave[0]), 3): one.recording.speaker for one in heard}
    for seed in range(8):  # in some orders two of ada's are neighbours, of which no splice is made
        with Bars() as bars:
            whole, spliced = constancy(heard, Levels(), np.random.default_rng(seed), bars)
        for pool, least in ((whole, 4), (spliced, 3)):
            assert len(pool.scores) >= least
            assert pool.speakers == [speaker[round(score, 3)] for score in pool.scores]
