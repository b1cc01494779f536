from __future__ import annotations

import numpy as np
import soxr

from device.audio.utterance import Samples
from device.conversation.band import is_narrow
from tests.device.conversation.conftest import read
from tests.speech import Reading


def by_telephone(samples: Samples) -> Samples:
    quieter = samples.astype(np.float32) * np.float32(0.5)  # so that nothing clips
    narrow = soxr.resample(soxr.resample(quieter, 16_000, 8_000), 8_000, 16_000)
    return np.clip(np.rint(narrow), -32768, 32767).astype(np.int16)


def test_a_telephone_is_told_from_a_microphone(reader: list[Reading], other_reader: list[Reading]) -> None:
    for reading in (*reader, *other_reader):
        assert not is_narrow(read(reading))
        assert is_narrow(by_telephone(read(reading)))


def test_silence_and_nothing_are_no_telephone() -> None:
    assert not is_narrow(np.zeros(16_000, np.int16))
    assert not is_narrow(np.zeros(0, np.int16))
