from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quantize.evaluate.door.heard import (
    CONDITIONS,
    LEAD_S,
    TALKERS,
    Condition,
    Surroundings,
    Wave,
    heard,
    wobbling,
)
from quantize.evaluate.door.rooms import response
from quantize.evaluate.recordings.manifest import Recording
from quantize.playback import rms

BY_NAME = {condition.name: condition for condition in CONDITIONS}
LEAD = round(LEAD_S * 16_000)


def voice(name: str) -> Recording:
    return Recording(f"c/{name}.flac", "bonafide", name, "", "", "", "")


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    root = tmp_path_factory.mktemp("around")
    made = Surroundings(root, tuple(voice(f"s{n}") for n in range(TALKERS + 1)), ("ward/beep.flac",))
    dice = np.random.default_rng(0)
    for path in (*(one.path for one in made.voices), *made.ward):
        (root / path).parent.mkdir(exist_ok=True)
        soundfile.write(root / path, 0.1 * dice.standard_normal(20_000), 16_000)
    return made


@pytest.fixture
def said() -> Wave:
    tone = np.sin(np.arange(16_000) * 0.1) * np.hanning(16_000)
    return (0.3 * tone).astype(np.float32)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_condition_is_the_same_for_one_path_and_leaves_sound(
    name: str, around: Surroundings, said: Wave
) -> None:
    one = heard(said, "a/1.flac", "a", BY_NAME[name], around)
    again = heard(said, "a/1.flac", "a", BY_NAME[name], around)
    np.testing.assert_array_equal(one, again)
    assert np.isfinite(one).all()
    assert np.abs(one).max() <= 1.0
    assert rms(one) > 0.01


def test_clean_is_the_recording_itself(around: Surroundings, said: Wave) -> None:
    assert heard(said, "a/1.flac", "a", BY_NAME["clean"], around) is said


@pytest.mark.parametrize(("kind", "snr_db"), [("babble", 15.0), ("ward", 10.0), ("noise", 20.0)])
def test_surroundings_are_as_loud_as_the_condition_says(
    kind: str, snr_db: float, around: Surroundings, said: Wave
) -> None:
    loud = heard(said, "a/1.flac", "a", Condition("x", kind, snr_db), around)
    alone = rms(loud[: LEAD // 2])
    whole = rms(loud[LEAD : LEAD + len(said)])
    assert 20 * np.log10(whole / alone) == pytest.approx(snr_db, abs=2.0)


def test_somebodys_own_voice_is_not_in_the_babble_around_them(around: Surroundings, said: Wave) -> None:
    few = replace(around, voices=around.voices[:TALKERS])
    assert few.can(BY_NAME["room, babble 15 dB"])
    with pytest.raises(ValueError, match="larger sample"):
        heard(said, "a/1.flac", few.voices[0].speaker, BY_NAME["room, babble 15 dB"], few)


def test_what_there_is_nothing_to_make_of_is_said() -> None:
    nothing = Surroundings(Path())
    assert {name for name, one in BY_NAME.items() if not nothing.can(one)} == {
        "room, babble 15 dB",
        "room, babble 10 dB",
        "room, ward sounds 15 dB",
        "room, ward sounds 10 dB",
    }


def test_a_room_far_away_has_more_echo_than_one_nearby() -> None:
    def direct(far: bool) -> float:
        shares = [float((response(n, far)[:40] ** 2).sum()) for n in range(6)]
        return float(np.mean(shares))

    assert direct(far=True) < 0.5 < direct(far=False)


def test_a_faster_fake_is_shorter_by_as_much(around: Surroundings, said: Wave) -> None:
    faster = heard(said, "f/1.flac", "", BY_NAME["0.7 % faster"], around)
    assert len(said) / len(faster) == pytest.approx(1.007, abs=0.001)


def test_wobbling_moves_the_pitch_up_and_down_and_adds_nothing_of_its_own() -> None:
    seconds = np.arange(32_000) / 16_000
    tone = np.sin(2 * np.pi * 5_000.0 * seconds).astype(np.float32)
    moved = wobbling(tone, 0.01)
    assert len(moved) == len(tone)
    phase = np.unwrap(np.angle(np.fft.ifft(np.fft.fft(moved) * (np.arange(32_000) < 16_000))))
    hz = np.convolve(np.diff(phase)[2_000:-2_000] * 16_000 / (2 * np.pi), np.full(400, 1 / 400), "valid")
    assert hz.max() == pytest.approx(5_050.0, abs=5.0)
    assert hz.min() == pytest.approx(4_950.0, abs=5.0)
    power = np.abs(np.fft.rfft(moved * np.hanning(len(moved)))) ** 2
    assert power[9_500:10_500].sum() / power.sum() > 1.0 - 1e-4


def test_a_condition_that_wobbles_does(around: Surroundings, said: Wave) -> None:
    moved = heard(said, "a/1.flac", "a", Condition("x", wobble=0.005), around)
    np.testing.assert_array_equal(moved, wobbling(said, 0.005))
    assert np.abs(moved - said).max() > 0.01
