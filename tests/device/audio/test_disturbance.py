"""Tones of one exact pitch, whispers and talkers, over and instead of real speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import Quality, QualityLimits, Utterance, load_utterance
from device.audio.errors import Flaw, QualityError
from device.audio.quality import check
from device.audio.spoiled.disturbance import steady_lines
from tests.device.audio.sounds import refused
from tests.speech import Reading

Wave = npt.NDArray[np.float32]
ENOUGH_LINES = 6


def wave(reading: Reading) -> Wave:
    samples, _ = soundfile.read(reading.path, dtype="float32", frames=6 * 16_000)
    return np.asarray(samples, np.float32)


def level(sound: Wave) -> float:
    """Of the louder half."""
    power = np.square(sound[: len(sound) // 320 * 320].reshape(-1, 320)).mean(axis=1)
    return float(np.sqrt(power[power >= np.median(power)].mean()))


def tones(length: int, hz: float, count: int) -> Wave:
    at = np.arange(length) / 16_000
    made = sum(np.sin(2 * np.pi * hz * n * at + n) / np.sqrt(n) for n in range(1, count + 1))
    return np.asarray(made / np.sqrt(np.square(made).mean()), np.float32)


def pulses(length: int) -> Wave:
    """150 ms on, 100 ms off."""
    return (np.arange(length) // 800 % 5 < 3).astype(np.float32)


def utterance_of(sound: Wave, tmp_path):
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.clip(sound, -1, 0.999), 16_000)
    return load_utterance(path)


def whispered_s(sound: Wave, tmp_path) -> float:
    """As measured, and as the door hears it."""
    try:
        return utterance_of(sound, tmp_path).quality.whispered_s
    except QualityError as refusal:
        if refusal.code is not Flaw.WHISPERED:
            raise
        return 1.0


def silent_throat() -> Utterance:
    """Nothing of it has a pitch."""
    quality = Quality(0.0, 30.0, 0.0, -30.0, 8_000.0, whispered_s=2.0)
    return Utterance(np.zeros(32_000, np.int16), 0.0, 2.0, quality)


def test_a_buzz_and_an_alarm_twenty_decibels_below_the_speech_are_heard_and_people_have_none(
    reader, other_reader
):
    for reading in (*reader[:2], *other_reader[:2]):
        sound = wave(reading)
        assert steady_lines(sound) < ENOUGH_LINES
        buzz = 0.1 * level(sound) * tones(len(sound), 100.04, 70)
        alarm = 0.1 * level(sound) * tones(len(sound), 610.0, 5) * pulses(len(sound))
        assert steady_lines(sound + buzz) >= ENOUGH_LINES
        assert steady_lines(sound + alarm) >= ENOUGH_LINES or len(sound) < 3 * 16_000


@pytest.mark.parametrize(
    ("hz", "multiples"), [(49.98, range(1, 120, 2)), (59.97, range(1, 110)), (100.04, range(1, 50))]
)
def test_every_kind_of_mains_buzz_in_a_noisy_room_is_heard_in_every_answer(
    reader: list[Reading], other_reader: list[Reading], hz: float, multiples: range
) -> None:
    """Odd harmonics, 60 Hz, a dull rectifier: each line is too weak alone, all are in their places."""
    for number, reading in enumerate((*reader, *other_reader)):
        sound = wave(reading)
        dice = np.random.default_rng(number)
        room = sound + 0.056 * level(sound) * dice.normal(size=len(sound)).astype(np.float32)
        at = np.arange(len(sound)) / 16_000
        made = sum(np.sin(2 * np.pi * hz * n * at + n * n) / np.sqrt(n) for n in multiples)
        buzz = 0.1 * level(sound) * made / np.sqrt(np.square(made).mean())
        assert steady_lines(room.astype(np.float32)) < ENOUGH_LINES, reading.path
        assert steady_lines((room + buzz).astype(np.float32)) >= ENOUGH_LINES, reading.path


def test_a_whisper_is_asked_to_speak_aloud(reader, tmp_path):
    """The spectrum's envelope of every 30 ms stays, and noise sounds in it: a throat without a voice."""
    sound, dice = wave(reader[0]), np.random.default_rng(2)
    made, window = np.zeros(len(sound) + 480), np.hanning(480)
    for start in range(0, len(sound) - 480, 120):
        spectrum = np.abs(np.fft.rfft(sound[start : start + 480] * window, 960))
        spectrum *= np.fft.rfftfreq(960, 1 / 16_000) > 300.0
        cepstrum = np.fft.irfft(np.log(spectrum + 1e-6))
        cepstrum[20:-20] = 0.0  # fine structure, which is the voice's pitch
        breath = np.fft.rfft(dice.normal(size=480) * window, 960)
        made[start : start + 480] += np.fft.irfft(breath * np.exp(np.fft.rfft(cepstrum).real))[:480]
    made *= 0.03 / level(made)
    assert whispered_s(made, tmp_path) > 0.5
    with refused(Flaw.WHISPERED, match="speak aloud"):
        check(silent_throat(), QualityLimits())
    assert utterance_of(sound, tmp_path).quality.whispered_s == 0.0


def test_people_who_talk_as_loud_as_the_speaker_are_too_much_noise(reader, other_reader, tmp_path):
    sound = np.pad(wave(reader[0]), 9_600)
    voices = [wave(one) for one in (*reader[1:3], *other_reader[:3])]
    talk = sum(np.resize(voice[2_000:] / level(voice), len(sound)) for voice in voices)
    mixed = sound / level(sound) + talk / level(talk)
    with refused(Flaw.TOO_NOISY):
        utterance_of(0.05 * mixed, tmp_path)
    alone = utterance_of(0.05 * sound / level(sound) + 0.01 * 0.05 * talk / level(talk), tmp_path)
    assert alone.quality.lull_db > 18.0
