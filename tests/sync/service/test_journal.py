"""The log of a service as the journal gets it, on a socket like the journal's own."""

from __future__ import annotations

import logging
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.service.journal import JournalHandler


class Journal:
    """The receiving end; reads the native protocol as systemd does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(60.0)

    def entry(self) -> dict[str, str]:
        data, found = self._socket.recv(1 << 18), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (size,) = struct.unpack("<Q", data[:8])
                value, data = data[8 : 8 + size], data[8 + size + 1 :]
            found[name.decode()] = value.decode()
        return found


@pytest.fixture
def journal() -> Iterator[Journal]:
    with tempfile.TemporaryDirectory() as folder:
        yield Journal(Path(folder) / "socket")


def test_a_record_has_its_message_its_priority_and_its_fields(journal: Journal) -> None:
    logger = logging.Logger("device.commands.run")
    logger.addHandler(JournalHandler(journal.path))
    logger.info("%s: %s", "DENIED_VOICE", "another voice", extra={"fields": {"outcome": "DENIED_VOICE"}})
    entry = journal.entry()
    assert entry["MESSAGE"] == "DENIED_VOICE: another voice"
    assert entry["PRIORITY"] == "6"
    assert entry["OSTIARY_OUTCOME"] == "DENIED_VOICE"
    assert entry["OSTIARY_LOGGER"] == "device.commands.run"


def test_a_message_of_several_lines_stays_one_entry_and_forges_no_field(journal: Journal) -> None:
    logger = logging.Logger("x")
    logger.addHandler(JournalHandler(journal.path))
    logger.error("one\nPRIORITY=7\nOSTIARY_OUTCOME=GRANTED")
    entry = journal.entry()
    assert entry["MESSAGE"] == "one\nPRIORITY=7\nOSTIARY_OUTCOME=GRANTED"
    assert entry["PRIORITY"] == "3"
    assert "OSTIARY_OUTCOME" not in entry


def test_a_service_logs_to_the_journal_and_a_person_to_standard_error(journal: Journal) -> None:
    code = "import sys, logging; from sync.service.journal import set_up; "
    code += "set_up(logging.INFO, '%(message)s', eval(sys.argv[1]), sys.argv[2]); logging.info('hello')"
    for environment, told in (({"JOURNAL_STREAM": "8:1"}, ""), ({}, "hello\n")):
        ran = subprocess.run(
            [sys.executable, "-c", code, repr(environment), journal.path],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stderr == told
    assert journal.entry()["MESSAGE"] == "hello"
