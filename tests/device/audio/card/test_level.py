"""A microphone that is set too low is raised between answers, by one number within limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.audio.card.level import (
    ENOUGH_DBFS,
    PEAK_DBFS,
    STEP_DB,
    InputLevel,
    LevelState,
    keep,
    kept,
)
from device.audio.quality import FULL_SCALE
from device.audio.utterance import SAMPLE_RATE_HZ, Samples
from tests.speech import POCKETSPHINX

LOW_DB = 24.0
"""How far below its recording a reader is heard in these tests."""


def reader(db: float = 0.0) -> Samples:
    """Three seconds of somebody who reads, `db` louder than the recording."""
    import soundfile

    samples, rate_hz = soundfile.read(sorted((POCKETSPHINX / "librivox").glob("*.wav"))[0], dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    louder = np.rint(samples[: 3 * SAMPLE_RATE_HZ] * 10.0 ** (db / 20.0))
    return np.clip(louder, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def answers(level: InputLevel, samples: Samples, count: int) -> list[float]:
    """The number after each of `count` answers."""
    found = []
    for _ in range(count):
        for start in range(0, len(samples), 1_000):
            level.raised(samples[start : start + 1_000])
        level.ended()
        found.append(level.state.gain_db)
    return found


def test_a_microphone_set_well_is_left_as_it_is() -> None:
    level, samples = InputLevel(12.0), reader()
    assert answers(level, samples, 5) == [0.0] * 5
    assert level.raised(samples) is samples, "not one sample is touched"


def test_quiet_people_are_raised_step_by_step_and_not_beyond_the_limit() -> None:
    level = InputLevel(12.0)
    gains = answers(level, reader(-LOW_DB), 10)
    steps = np.diff([0.0, *gains])
    assert 0.0 <= steps.min() <= steps.max() <= STEP_DB
    assert gains[-1] == gains[-2] <= 12.0
    assert gains[-1] > 0.0
    assert answers(InputLevel(0.0), reader(-LOW_DB), 3) == [0.0] * 3, "0 is never"
    assert level.state.speech_dbfs + gains[-1] <= ENOUGH_DBFS + 1.0


def test_within_one_answer_the_number_does_not_move_and_the_wave_keeps_its_shape() -> None:
    level, low = InputLevel(12.0, LevelState(-45.0, 12.0)), reader(-LOW_DB)
    louder = np.concatenate([level.raised(low[at : at + 777]) for at in range(0, len(low), 777)])
    expected = np.rint(low * np.float32(10.0 ** (12.0 / 20.0)))
    assert np.array_equal(louder, expected.astype(np.int16))


def test_people_who_are_heard_well_again_are_no_longer_raised() -> None:
    level = InputLevel(12.0, LevelState(-45.0, 12.0))
    gains = answers(level, reader(), 12)
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == 0.0


def test_one_person_does_not_set_it_for_everybody() -> None:
    level, well = InputLevel(12.0), reader()
    answers(level, well, 1)
    usual_dbfs = level.state.speech_dbfs
    answers(level, reader(-LOW_DB), 1)
    assert level.state.speech_dbfs == pytest.approx(usual_dbfs - LOW_DB / 4.0, abs=0.5)


def test_the_loudest_sample_stays_below_full_scale() -> None:
    low = reader(-LOW_DB)
    low[5_000] = 20_000  # somebody knocks
    level = InputLevel(12.0)
    answers(level, low, 6)
    assert 20.0 * np.log10(20_000 / FULL_SCALE) + level.state.gain_db <= PEAK_DBFS + 0.5


@pytest.mark.parametrize("samples", [np.zeros(48_000, np.int16), reader()[:4_000], np.zeros(0, np.int16)])
def test_silence_and_short_sounds_teach_nothing(samples: Samples) -> None:
    level = InputLevel(12.0, LevelState(-45.0, 6.0))
    assert answers(level, samples, 3) == [6.0] * 3


def test_the_state_is_kept_for_the_next_start_and_for_doctor(tmp_path: Path) -> None:
    path = tmp_path / "input-level.json"
    assert kept(path) == LevelState()
    level = InputLevel(12.0, kept(path), lambda state: keep(path, state))
    answers(level, reader(-LOW_DB), 2)
    assert kept(path).gain_db == level.state.gain_db > 0.0
    assert "raised by" in str(kept(path))
    assert LevelState(-55.0, 12.0).complaint
    assert not LevelState().complaint
    for damage in (
        b"",
        b"[]",
        b"{",
        b'{"speech_dbfs": "x", "gain_db": 1}',
        b'{"speech_dbfs": -40, "gain_db": NaN}',
    ):
        path.write_bytes(damage)
        assert kept(path) == LevelState()
    keep(tmp_path / "no-such-folder" / "x", LevelState())
