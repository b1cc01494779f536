"""A bundle with the segmentation, and a conversation between two real voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import Samples
from device.conversation.turns import Turn
from tests.speech import Reading


def read(reading: Reading) -> Samples:
    return read_recording(reading.path, FileLimits())


@pytest.fixture(scope="session")
def talk(reader: list[Reading], other_reader: list[Reading]) -> tuple[Samples, list[Turn]]:
    """Two people in turn, the second one's utterances at the end said across the first one's sentence."""
    pause = np.zeros(8_000, np.int16)
    parts, turns, at = [pause], [], len(pause)
    for number, (one, two) in enumerate(zip(reader, other_reader, strict=False)):
        for name, reading in (("reader", one), ("cards", two)):
            samples = read(reading)
            parts += [samples, pause]
            turns.append(Turn(at / 16_000, (at + len(samples)) / 16_000, name))
            at += len(samples) + len(pause)
        if number == 2:
            break
    first, second = read(reader[3]), read(other_reader[4])
    across = first.astype(np.int32)
    across[: len(second)] += second[: len(across)]
    turns.append(Turn(at / 16_000, (at + len(first)) / 16_000, "reader"))
    turns.append(Turn(at / 16_000, (at + min(len(first), len(second))) / 16_000, "cards"))
    parts += [np.clip(across, -32768, 32767).astype(np.int16), pause]
    return np.concatenate(parts), turns


@pytest.fixture
def talk_file(talk: tuple[Samples, list[Turn]], tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, talk[0], 16_000, subtype="PCM_16")
    return path
