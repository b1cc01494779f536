"""One recording is one recording, however often and however it is saved."""

from __future__ import annotations

import numpy as np
import soundfile

from device.audio import load_utterance
from device.settings import Settings
from device.unit.repeats import repeated
from tests.speech import Reading


def test_a_trimmed_a_softer_and_a_resaved_copy_are_the_same_recording(
    reader: list[Reading], tmp_path
) -> None:
    settings = Settings()
    own = load_utterance(reader[0].path, settings.audio).wave()
    soundfile.write(tmp_path / "again.flac", own * 0.5, 16_000)
    again = load_utterance(tmp_path / "again.flac", settings.audio).wave()
    for copy in (own[4_000:], own[:-9_000], -0.3 * own, again):
        assert repeated({"a": own, "b": copy.astype(np.float32)}) == ("a", "b")


def test_utterances_of_one_person_are_recordings_of_their_own(reader: list[Reading]) -> None:
    settings = Settings()
    assert repeated({r.path.name: load_utterance(r.path, settings.audio).wave() for r in reader}) is None
