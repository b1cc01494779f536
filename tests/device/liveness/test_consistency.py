from __future__ import annotations

import numpy as np

from device.evidence.judge import Judge
from device.liveness import consistency
from device.liveness.weights import shipped
from tests.device.liveness.sounds import noise, prompt, speech
from tests.speech import Reading


def llr(judge: Judge, wave: np.ndarray) -> float:
    cosine = consistency.score(judge.speaker, wave)
    assert cosine is not None
    return shipped().consistency.llr(cosine)


def test_one_reader_is_one_voice_from_beginning_to_end(judge: Judge, reader: list[Reading]) -> None:
    for number in (0, 2, 4):
        assert llr(judge, speech(reader[number].path)) > 0.0


def test_a_splice_of_two_people_changes_its_voice(judge: Judge, reader: list[Reading]) -> None:
    half = 16_000 * 2
    splice = np.concatenate([speech(reader[0].path)[:half], prompt("agent-incorrect")[:half]])
    assert llr(judge, splice) < 0.0


def test_too_short_speech_is_not_asked(judge: Judge) -> None:
    assert consistency.score(judge.speaker, noise(1.5)) is None
