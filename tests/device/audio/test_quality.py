from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soxr

from device.audio import (
    Quality,
    QualityLimits,
    Utterance,
    load_utterance,
)
from device.audio.errors import Flaw, QualityError
from device.audio.quality import check, measure
from tests.device.audio.sounds import hush, join, read, refused, tone, write
from tests.speech import Reading

GOOD = Quality(speech_s=2.0, snr_db=25.0, clipped_fraction=0.0, level_dbfs=-25.0, bandwidth_hz=7_000.0)


def utterance(**changes: float) -> Utterance:
    return Utterance(np.zeros(48_000, np.int16), 0.2, 2.8, dataclasses.replace(GOOD, **changes))


def test_a_good_utterance_comes_back_itself() -> None:
    heard = utterance()
    assert check(heard, QualityLimits()) is heard


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"speech_s": 0.0}, Flaw.SILENCE),
        ({"speech_s": 0.3}, Flaw.TOO_SHORT),
        ({"level_dbfs": -70.0}, Flaw.SILENCE),
        ({"snr_db": 3.0}, Flaw.TOO_NOISY),
        ({"clipped_fraction": 0.2}, Flaw.CLIPPED),
        ({"snr_db": float("nan")}, Flaw.SILENCE),
        ({"level_dbfs": float("inf")}, Flaw.SILENCE),
    ],
)
def test_each_fault_has_its_own_refusal(changes: dict[str, float], flaw: Flaw) -> None:
    with refused(flaw):
        check(utterance(**changes), QualityLimits())


def test_every_refusal_tells_the_person_what_to_do() -> None:
    for changes in ({"speech_s": 0.0}, {"speech_s": 0.3}, {"snr_db": 1.0}, {"clipped_fraction": 1.0}):
        with pytest.raises(QualityError, match="Please") as refused:
            check(utterance(**changes), QualityLimits())
        assert refused.value.code in {"SILENCE", "TOO_SHORT", "TOO_NOISY", "CLIPPED"}


def test_signal_to_noise_ratio_follows_the_noise() -> None:
    flags = np.array([False] * 25 + [True] * 50 + [False] * 25)
    speech = join(hush(0.5, 0.0), tone(1.0), hush(0.5, 0.0)).astype(float)
    power = np.mean(np.square(tone(1.0).astype(float)))
    for wanted_db in (10.0, 20.0, 30.0):
        noise = hush(2.0, np.sqrt(power / 10 ** (wanted_db / 10)))
        found = measure((speech + noise).astype(np.int16), flags).snr_db
        # Speech frames hold the noise as well, hence a little more than the true ratio when it is low.
        assert found == pytest.approx(10 * np.log10(1 + 10 ** (wanted_db / 10)), abs=0.5)


def test_level_and_speech_seconds_count_only_speech() -> None:
    flags = np.array([False] * 50 + [True] * 25 + [False] * 50)
    found = measure(join(hush(1.0), tone(0.5), hush(1.0)), flags)
    assert found.speech_s == pytest.approx(0.5)
    assert found.level_dbfs == pytest.approx(20 * np.log10(np.std(tone(0.5)) / 32_768), abs=0.1)


def test_no_speech_frames_measure_as_silence() -> None:
    assert measure(hush(1.0), np.zeros(50, np.bool_)).speech_s == 0.0


def test_flags_must_fit_the_frames() -> None:
    with pytest.raises(ValueError, match="50 frames, but 49 flags"):
        measure(hush(1.0), np.zeros(49, np.bool_))


def test_a_telephone_is_recognised_by_its_bandwidth(reader: list[Reading]) -> None:
    wide = read(reader[1].path)
    narrow = soxr.resample(soxr.resample(wide, 16_000, 8_000), 8_000, 16_000)[: len(wide)]
    count = len(narrow) // 320
    flags = np.ones(count, np.bool_)
    assert measure(wide[: count * 320], flags).bandwidth_hz > 6_000
    assert 3_400 < measure(narrow[: count * 320], flags).bandwidth_hz < 4_300


def test_every_packaged_reader_passes(reader: list[Reading], other_reader: list[Reading]) -> None:
    for path, _ in reader + other_reader:
        quality = load_utterance(path).quality
        assert quality.speech_s > 0.8
        assert quality.snr_db > 15.0


@pytest.mark.parametrize("system", ["espeak-ng", "flite"])
def test_a_clean_synthetic_voice_passes_too_because_quality_is_no_proof_of_life(
    synthetic_voice, system: str
) -> None:
    assert load_utterance(synthetic_voice("amber seven canoe", system)).quality.speech_s > 0.8


@pytest.mark.parametrize(
    "sound",
    [
        hush(3.0, 0.0),
        hush(3.0, 1.0),
        hush(3.0, 100.0),
        hush(3.0, 3_000.0),
        hush(3.0, 30_000.0),
        np.full(48_000, 9_000, np.int16),
        np.cumsum(hush(3.0, 60.0).astype(int)).clip(-30_000, 30_000).astype(np.int16),
        (20_000 * np.sign(np.sin(np.arange(48_000) * 2 * np.pi * 3_000 / 16_000))).astype(np.int16),
        np.where(np.arange(48_000) % 8_000 == 0, 32_000, 0).astype(np.int16),
    ],
    ids=["zeros", "one bit", "quiet hiss", "hiss", "roar", "dc offset", "rumble", "beep", "clicks"],
)
def test_what_is_no_voice_is_refused(tmp_path: Path, sound: np.ndarray) -> None:
    with pytest.raises(QualityError):
        load_utterance(write(tmp_path / "noise.wav", sound))


def test_speech_drowned_in_noise_is_refused(tmp_path: Path, reader: list[Reading]) -> None:
    speech = read(reader[1].path)
    noise = hush(len(speech) / 16_000, np.sqrt(np.mean(np.square(speech.astype(float)))))
    path = write(
        tmp_path / "drowned.wav", np.clip(speech.astype(int) + noise, -32_768, 32_767).astype("int16")
    )
    with refused(Flaw.TOO_NOISY, Flaw.SILENCE):
        load_utterance(path)


def test_overdriven_speech_is_refused(tmp_path: Path, reader: list[Reading]) -> None:
    loud = np.clip(read(reader[1].path).astype(int) * 12, -32_768, 32_767).astype(np.int16)
    with refused(Flaw.CLIPPED, match="step back"):
        load_utterance(write(tmp_path / "clipped.wav", loud))


def test_faint_speech_is_refused(tmp_path: Path, reader: list[Reading]) -> None:
    faint = (read(reader[1].path).astype(float) / 300).round().astype(np.int16)
    with refused(Flaw.SILENCE, match="come closer"):
        load_utterance(write(tmp_path / "faint.wav", faint))


def test_a_clipped_syllable_is_too_short(tmp_path: Path, reader: list[Reading]) -> None:
    # 0.2 s out of the middle of a sentence, in a quiet room.
    syllable = read(reader[1].path)[16_000:19_200]
    path = write(tmp_path / "syllable.wav", join(hush(0.5, 5.0), syllable, hush(0.5, 5.0)))
    with refused(Flaw.TOO_SHORT, Flaw.SILENCE):
        load_utterance(path)


def test_blocks_that_were_lost_inside_speech_are_asked_again_and_not_judged(
    reader: list[Reading], tmp_path: Path
) -> None:
    whole = read(reader[1].path).copy()
    for at in range(2_240, len(whole) - 320, 3_200):
        whole[at : at + 320] = 0
    with refused(Flaw.GAP, match="lost"):
        load_utterance(write(tmp_path / "gaps.wav", whole))


def test_pauses_of_a_noise_gate_are_no_lost_blocks(reader: list[Reading], tmp_path: Path) -> None:
    gated = read(reader[1].path).copy()
    level = np.convolve(np.abs(gated.astype(np.float32)), np.ones(320) / 320, "same")
    fade = np.convolve((level > 200.0).astype(np.float32), np.hanning(640) / np.hanning(640).sum(), "same")
    gated = (gated * fade).astype(np.int16)
    assert load_utterance(write(tmp_path / "gated.wav", gated)).quality.speech_s > 0.0


def test_closures_of_a_synthesiser_that_differ_in_length_are_no_lost_blocks(
    reader: list[Reading], tmp_path: Path
) -> None:
    whole = read(reader[1].path).copy()
    for at, length in ((9_000, 143), (15_000, 765), (21_000, 190), (27_000, 464), (33_000, 251)):
        whole[at : at + length] = 0
    assert load_utterance(write(tmp_path / "closures.wav", whole)).quality.speech_s > 0.0


def test_a_room_slows_how_fast_sound_dies_away() -> None:
    dice = np.random.default_rng(3)
    bursts = np.repeat(np.tile([0.3, 0.0003], 8), 3_200) * dice.standard_normal(51_200)
    tail = dice.standard_normal(9_600) * np.exp(-6.9 * np.arange(9_600) / 9_600)
    tail[0] = 10.0
    echoing = np.convolve(bursts, tail / 20.0)[: len(bursts)]

    def decay_db_s(wave: np.ndarray) -> float:
        samples = np.clip(wave * 10_000, -32_768, 32_767).astype(np.int16)
        return measure(samples, np.ones(len(samples) // 320, bool)).decay_db_s

    assert decay_db_s(bursts) > 300.0
    assert 60.0 < decay_db_s(echoing) < 160.0
    assert decay_db_s(np.zeros(16_000)) == 0.0
