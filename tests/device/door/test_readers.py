"""A badge reader on a stream: wedges, serial readers, noise and a cable that is pulled."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from device.door.readers import swipes
from device.errors import DeviceError


@contextmanager
def reader() -> Iterator[tuple[BinaryIO, int]]:
    """Where the unit reads, and the reader's end of the line."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb", buffering=0) as stream:
        yield stream, theirs


def test_badges_are_read_until_the_reader_is_closed() -> None:
    with reader() as (stream, line):
        os.write(line, b"00-4711\r\n4712")
        os.close(line)
        assert [swipe.number for swipe in swipes(stream)] == ["004711", "4712"]


def test_noise_is_one_unreadable_badge_and_the_next_badge_counts() -> None:
    with reader() as (stream, line):
        os.write(line, b"\xff\xfe\r" * 200 + b"4712\r")
        os.close(line)
        told = list(swipes(stream))
    assert [bool(swipe.trouble) for swipe in told] == [True, False]
    assert told[1].number == "4712"


def test_the_door_rests_a_while_after_the_last_badge() -> None:
    rested = threading.Event()
    with reader() as (stream, line):
        os.write(line, b"4712\r")
        coming = swipes(stream, rest=lambda: (rested.set(), os.close(line))[0], rest_s=0.05)
        assert next(coming).number == "4712"
        assert list(coming) == []
    assert rested.is_set()


def test_a_reader_that_is_pulled_off_is_an_error_that_says_what_to_do() -> None:
    controller, terminal = os.openpty()
    with os.fdopen(controller, "rb", buffering=0) as stream:
        os.close(terminal)
        with pytest.raises(DeviceError, match="cable"):
            list(swipes(stream))
