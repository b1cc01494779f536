from __future__ import annotations

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from sync.durable import Watched, replace_file
from sync.plain_file import (
    CHUNK_BYTES,
    NETWORK_BYTES,
    check_plain,
    check_plain_or_new,
    open_output,
    open_plain,
    plain_bytes,
    plain_text,
)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


STRANGE = {
    "a named pipe": _pipe,
    "a folder": Path.mkdir,
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_plain_file_is_named_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "settings.toml"
    STRANGE[kind](path)
    for read in (plain_bytes, plain_text, open_plain, check_plain, check_plain_or_new):
        with pytest.raises(OSError, match=kind) as told:
            read(path)  # type: ignore[operator]
        assert told.value.strerror == f"it is {kind}, and a plain file belongs there"
        assert told.value.filename == str(path)


def test_a_file_above_the_limit_is_refused_and_one_at_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"x" * 2048)
    assert plain_bytes(path, 2048) == b"x" * 2048
    with pytest.raises(OSError, match=r"it is larger than 1 KiB; is it the right file\?"):
        plain_bytes(path, 1024)


def test_a_file_as_large_as_a_disk_system_allows_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="it is larger than 4 MiB"):
        plain_bytes(path)


def test_a_file_whose_size_is_not_told_is_read_and_bounded() -> None:
    assert plain_text(Path("/proc/self/stat")).startswith(f"{os.getpid()} ")  # its size is told as 0
    with pytest.raises(OSError, match="larger"):
        plain_bytes(Path("/proc/self/stat"), 4)


def test_a_link_is_followed_unless_it_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"1")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there")
    assert plain_bytes(link) == b"1"
    with pytest.raises(OSError, match="it is a link"):
        open_plain(link, links=False)


def test_links_in_a_circle_and_a_name_with_a_zero_are_os_errors(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, Path("a\0b"), tmp_path / ("long" * 1000)):
        with pytest.raises(OSError, match=r"."):
            plain_bytes(path)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert plain_text(path) == "x = 1\n"


def test_a_watched_file_that_becomes_a_pipe_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    _pipe(path)
    assert Watched(path, 10).read() == b""


def test_a_pipe_or_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    _pipe(path)
    with pytest.raises(OSError, match="it is a named pipe"):
        replace_file(path, b"1")
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_goes_into_a_pipe_with_a_reader_and_waits_for_none(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="that nobody reads"):
        open_output(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with open_output(pipe) as file:
        file.write(b"result")
    assert os.read(reader, 100) == b"result"
    os.close(reader)
    with open_output(tmp_path / "new") as file:
        file.write(b"result")
    assert (tmp_path / "new").read_bytes() == b"result"


def test_reading_sets_aside_what_a_file_holds_and_not_what_it_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert plain_bytes(path, NETWORK_BYTES) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_file_whose_size_is_not_told_is_read_whole_also_beyond_one_chunk() -> None:
    assert len(plain_bytes(Path("/proc/self/smaps"))) > CHUNK_BYTES
