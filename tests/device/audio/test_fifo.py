from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from device.audio import AudioDeviceLostError, AudioError, Ended, FifoSource, listen
from device.audio.errors import UnreadableAudioError
from tests.device.audio.sounds import hush, join, read, tone, wav_bytes
from tests.speech import Reading


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "door.pcm"
    os.mkfifo(path)
    return path


class Writer:
    """Another process's end of the pipe, in a thread: writes pieces, optionally keeps the pipe open after."""

    def __init__(self, pipe: Path, *pieces: bytes, pause_s: float = 0.0, linger: Event | None = None) -> None:
        self._pipe, self._pieces, self._pause_s, self._linger = pipe, pieces, pause_s, linger
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _write(self) -> None:
        try:
            with self._pipe.open("wb", buffering=0) as file:
                for piece in self._pieces:
                    file.write(piece)
                    time.sleep(self._pause_s)
                if self._linger is not None:
                    self._linger.wait()
        except BrokenPipeError:
            pass  # the reader refused us: that is what the test wants


def samples_of(source: FifoSource) -> np.ndarray:
    return np.concatenate([frame.samples for frame in source.frames(Event())])


def test_samples_arrive_as_they_were_written(pipe: Path) -> None:
    sound = tone(3.0)
    with Writer(pipe, sound.tobytes()):
        assert np.array_equal(samples_of(FifoSource(pipe)), sound)


def test_writes_of_odd_sizes_are_put_together(pipe: Path) -> None:
    sound = tone(0.2)
    data = sound.tobytes()
    pieces = [data[at : at + 77] for at in range(0, len(data), 77)]
    with Writer(pipe, *pieces, pause_s=0.0005):
        assert np.array_equal(samples_of(FifoSource(pipe)), sound)


def test_a_writer_that_goes_away_between_samples_ends_the_stream(pipe: Path) -> None:
    with Writer(pipe, np.full(330, 5, np.int16).tobytes()):
        first, last = FifoSource(pipe).frames(Event())
    assert first.samples.tolist() == [5] * 320
    assert last.samples.tolist() == [5] * 10 + [0] * 310


def test_a_writer_that_goes_away_inside_a_sample_is_malformed_input(pipe: Path) -> None:
    with (
        Writer(pipe, tone(0.1).tobytes() + b"\x01"),
        pytest.raises(UnreadableAudioError, match="middle of a sample"),
    ):
        samples_of(FifoSource(pipe))


def test_a_writer_that_never_writes_is_an_end_and_no_error(pipe: Path) -> None:
    with Writer(pipe):
        assert list(FifoSource(pipe).frames(Event())) == []


def test_a_writer_that_hangs_is_a_lost_device(pipe: Path) -> None:
    done = Event()
    with Writer(pipe, tone(0.1).tobytes(), linger=done):
        try:
            with pytest.raises(AudioDeviceLostError, match="gone silent"):
                samples_of(FifoSource(pipe, stall_s=0.3))
        finally:
            done.set()


def test_waiting_for_a_writer_can_be_stopped(pipe: Path) -> None:
    stop = Event()
    threading.Timer(0.2, stop.set).start()
    assert list(FifoSource(pipe, stall_s=0.1).frames(stop)) == []


@pytest.mark.parametrize(
    "content", [wav_bytes(tone(1.0).tobytes()), b"fLaC" + bytes(2_000)], ids=["wav", "flac"]
)
def test_a_file_with_a_header_is_refused(pipe: Path, content: bytes) -> None:
    with Writer(pipe, content), pytest.raises(UnreadableAudioError, match="write raw samples"):
        samples_of(FifoSource(pipe))


def test_what_is_no_pipe_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.pcm"
    file.write_bytes(tone(1.0).tobytes())
    for path in (file, tmp_path):
        with pytest.raises(AudioError, match="not a named pipe"):
            samples_of(FifoSource(path))
    with pytest.raises(AudioError, match="cannot be opened"):
        samples_of(FifoSource(tmp_path / "gone.pcm"))


def test_a_person_is_heard_through_a_pipe(pipe: Path, reader: list[Reading]) -> None:
    sound = join(hush(0.5, 5.0), read(reader[1].path), hush(1.0, 5.0))
    with Writer(pipe, sound.tobytes()):
        (ended,) = [event for event in listen(FifoSource(pipe), Event()) if isinstance(event, Ended)]
    assert ended.utterance.duration_s > 2.5


def test_the_next_writer_can_be_waited_for(pipe: Path) -> None:
    source = FifoSource(pipe)

    def one() -> Iterator[int]:
        with Writer(pipe, tone(0.1).tobytes()):
            yield len(samples_of(source))

    assert [*one(), *one()] == [1_600, 1_600]
