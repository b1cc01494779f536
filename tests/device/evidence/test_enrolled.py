from __future__ import annotations

import numpy as np
import pytest

from device.audio.utterance import Quality
from device.evidence.enrolled import Embedding, Voices
from device.models.speaker import unit


def llr(probe: Embedding, template: Embedding) -> float:
    return 20.0 * float(probe @ template) - 8.0


def voices(speech_s: float = 4.0, snr_db: float = 30.0, spread: float = 0.1, phrases: int = 5) -> Voices:
    dice = np.random.default_rng(0)
    centre = np.eye(192, dtype=np.float32)[0]
    heard = [unit(centre + spread * dice.standard_normal(192) / np.sqrt(192)) for _ in range(phrases)]
    return Voices(heard, [3.0] * phrases, [Quality(speech_s, snr_db, 0.0, -20.0, 8_000.0)] * phrases)


def test_a_good_enrolment_lacks_nothing() -> None:
    worth = voices().worth(llr)
    assert (worth.percent, worth.why, worth.poor) == (100, "", False)


def test_three_phrases_are_taken_and_said_to_be_few() -> None:
    worth = voices(phrases=3).worth(llr)
    assert (worth.percent, worth.poor) == (50, False)
    assert worth.why == "3 phrases; with 5 the person is refused less often"
    assert voices(phrases=4).worth(llr).percent == 75


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (voices(speech_s=1.2), "only 6.0 s of speech in all"),
        (voices(snr_db=12.0), "one recording is only 12 dB above noise"),
        (voices(spread=2.0), "one recording differs from the others"),
    ],
)
def test_a_poor_one_says_what_it_lacks(heard: Voices, why: str) -> None:
    worth = heard.worth(llr)
    assert worth.poor
    assert worth.why == why
