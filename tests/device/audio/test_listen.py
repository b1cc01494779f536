from __future__ import annotations

import csv
import dataclasses
import time
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest

from device.audio import (
    AudioSettings,
    Ended,
    FileSource,
    Frame,
    QualityLimits,
    Refused,
    SilenceBegan,
    SilenceLasts,
    SpeechResumed,
    Utterance,
    listen,
    load_utterance,
)
from device.audio.errors import Flaw, QualityError
from device.audio.utterance import FRAME_SAMPLES
from tests.device.audio.sounds import Playing, flaw_of, frames, hush, join, read, refused, write
from tests.speech import Reading


def heard(source, settings: AudioSettings | None = None) -> list[Utterance | QualityError]:
    """What each utterance of the stream ended as."""
    events = listen(source, Event(), settings)
    return [
        event.utterance if isinstance(event, Ended) else event.error
        for event in events
        if isinstance(event, Ended | Refused)
    ]


def test_a_file_gives_all_of_its_speech(reader: list[Reading]) -> None:
    for path, _ in reader:
        utterance = load_utterance(path)
        assert utterance.duration_s == pytest.approx(len(read(path)) / 16_000, abs=0.4)


def test_silence_around_the_speech_is_left_out(tmp_path: Path, reader: list[Reading]) -> None:
    speech = read(reader[1].path)
    path = write(tmp_path / "padded.wav", join(hush(5.0, 5.0), speech, hush(5.0, 5.0)))
    utterance = load_utterance(path)
    assert utterance.duration_s < len(speech) / 16_000 + 0.6
    assert utterance.speech_start_s == pytest.approx(0.24, abs=0.02)


def test_a_pause_in_a_file_does_not_cut_it(tmp_path: Path, reader: list[Reading]) -> None:
    first, second = read(reader[1].path), read(reader[4].path)
    path = write(tmp_path / "pause.wav", join(first, hush(2.0, 5.0), second))
    assert load_utterance(path).duration_s == pytest.approx(
        len(first) / 16_000 + 2.0 + len(second) / 16_000, abs=0.5
    )


def test_a_silent_file_is_refused(tmp_path: Path) -> None:
    with refused(Flaw.SILENCE, match="come closer"):
        load_utterance(write(tmp_path / "silent.wav", hush(2.0, 0.0)))


def test_the_door_and_the_file_hear_the_same_samples(tmp_path: Path, reader: list[Reading]) -> None:
    path = write(tmp_path / "phrase.wav", join(hush(1.0, 5.0), read(reader[1].path), hush(1.5, 5.0)))
    (live,) = heard(FileSource(path))
    assert isinstance(live, Utterance)
    assert np.array_equal(live.samples, load_utterance(path).samples)


def test_two_sentences_at_the_door_are_two_utterances(
    tmp_path: Path, reader: list[Reading], other_reader: list[Reading]
) -> None:
    gap = hush(1.5, 5.0)
    path = write(tmp_path / "two.wav", join(gap, read(reader[1].path), gap, read(other_reader[1].path), gap))
    first, second = heard(FileSource(path))
    assert isinstance(first, Utterance)
    assert isinstance(second, Utterance)
    assert first.duration_s > second.duration_s > 1.5


def test_speech_cut_off_by_the_end_of_the_stream_is_heard(reader: list[Reading]) -> None:
    (utterance,) = heard(FileSource(reader[3].path))
    assert isinstance(utterance, Utterance)
    assert utterance.duration_s > 5.5


def test_speech_longer_than_the_window_keeps_its_latest_part(tmp_path: Path, reader: list[Reading]) -> None:
    long = join(*[read(path)[2_000:-2_000] for path, _ in reader])
    utterance = load_utterance(write(tmp_path / "long.flac", long))
    assert utterance.earlier_s > 5.0
    assert utterance.speech_end_s - utterance.speech_start_s == pytest.approx(15.0)


def test_the_speculative_utterance_of_a_last_pause_is_the_one_that_ends(
    tmp_path: Path, reader: list[Reading]
) -> None:
    path = write(tmp_path / "phrase.wav", join(read(reader[1].path), hush(1.0, 5.0)))
    heard = list(listen(FileSource(path), Event()))
    events = [event for event in heard if not isinstance(event, SilenceLasts)]
    assert len(heard) - len(events) > 10
    assert isinstance(events[-1], Ended)
    assert isinstance(events[-2], SilenceBegan)
    assert events[-2].utterance is events[-1].utterance
    assert events[-1].at_s - events[-2].at_s == pytest.approx(0.5)


def test_frames_are_overwritten_once_they_were_heard(reader: list[Reading]) -> None:
    played = frames(read(reader[1].path))
    heard(Playing(played))
    assert not any(frame.samples.any() for frame in played)


def test_void_utterances_are_overwritten(reader: list[Reading]) -> None:
    pause = hush(0.4, 5.0)
    sound = join(read(reader[1].path), pause, read(reader[4].path), hush(1.0, 5.0))
    pauses: list[Utterance] = []
    for event in listen(Playing(frames(sound)), Event()):
        if isinstance(event, SilenceBegan):
            pauses.append(event.utterance)
        if isinstance(event, SpeechResumed):
            pauses[-1].wipe()
    assert len(pauses) >= 2
    assert not pauses[0].samples.any()
    assert pauses[-1].samples.any()


def test_stopping_ends_the_stream_and_emits_nothing_half_said(reader: list[Reading]) -> None:
    stop = Event()
    Timer(0.5, stop.set).start()
    events = list(listen(FileSource(reader[0].path, realtime=True), stop))
    assert not any(isinstance(event, Ended | Refused) for event in events)


def test_what_was_said_across_a_gap_is_refused_and_the_next_sentence_is_heard(reader: list[Reading]) -> None:
    sentence = frames(join(hush(0.5, 5.0), read(reader[1].path), hush(1.0, 5.0)))
    copy = [Frame(frame.samples.copy()) for frame in sentence]
    half = len(sentence) // 2
    after_loss = Frame(sentence[half].samples, lost_samples=24_001)
    first, second = heard(Playing([*sentence[:half], after_loss, *sentence[half + 1 :], *copy]))
    assert flaw_of(first) is Flaw.GAP
    assert isinstance(second, Utterance)


def test_a_door_may_ask_for_more_speech_than_a_word(other_reader: list[Reading]) -> None:
    strict = dataclasses.replace(AudioSettings(), quality=QualityLimits(min_speech_s=1.5))
    with refused(Flaw.TOO_SHORT, match="whole phrase"):
        load_utterance(other_reader[0].path, strict)


def test_a_refusal_on_the_stream_does_not_end_it(tmp_path: Path, reader: list[Reading]) -> None:
    cough = read(reader[1].path)[16_000:20_000]
    gap = hush(1.5, 5.0)
    path = write(tmp_path / "cough.wav", join(gap, cough, gap, read(reader[1].path), gap))
    events = list(listen(FileSource(path), Event()))
    assert any(isinstance(event, Refused) for event in events)
    assert isinstance(events[-1], Ended)


def test_a_file_source_plays_at_the_speed_of_a_microphone_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "short.wav", hush(0.3))
    started = time.monotonic()
    assert len(list(FileSource(path, realtime=True).frames(Event()))) == 15
    assert time.monotonic() - started >= 0.29


def test_the_last_frame_of_a_file_is_filled_up_with_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.wav", np.full(FRAME_SAMPLES + 1, 7, np.int16))
    _, last = FileSource(path).frames(Event())
    assert last.samples.tolist() == [7] + [0] * (FRAME_SAMPLES - 1)


def test_the_development_recordings_of_people_pass_and_noise_does_not(development_data: Path) -> None:
    with (development_data / "manifest.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    people = [row["path"] for row in rows if row["path"].startswith(("an4/", "so762/"))][::8]
    noises = [row["path"] for row in rows if row["path"].startswith("noise/")]  # others hold voices

    def passes(path: str) -> bool:
        try:
            load_utterance(development_data / path).wipe()
        except QualityError:
            return False
        return True

    assert sum(map(passes, people)) >= 0.98 * len(people)
    assert sum(map(passes, noises)) <= 0.2 * len(noises)
