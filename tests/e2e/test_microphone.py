"""The real microphone path: PulseAudio, ALSA, PortAudio and our own code, with a real person's voice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import Reading

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
TRIES, SOON_S = 5, 20.0
"""So often a clip is played, and so long after it something is told of it if it was heard."""
SPOILED = ("GAP", "TOO_SHORT", "QUALITY")
"""How a sentence is refused of which blocks were lost: at once, cut off, or with a crack over the words."""


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    require_sound()
    with SoundServer() as running:
        yield running


class Hearing:
    """A process that listens to the server's microphone and tells what it hears."""

    def __init__(self, server: SoundServer, *arguments: str) -> None:
        self._server = server
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.hearing", *arguments],
            cwd=ROOT,
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: Queue[dict[str, object]] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Hearing:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(json.loads(line))

    def until(self, kind: str) -> dict[str, object]:
        """The next event of this kind; those before it are passed over."""
        seen = []
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except Empty:
                pytest.fail(f"no {kind} after {seen}")
            if line["kind"] == kind:
                return line
            seen.append(line["kind"])

    def said(self, path: Path) -> dict[str, object]:
        """What is heard of a clip that is played. On a busy machine blocks of it are lost, and it is refused
        or not heard at all: then it is played again.
        """
        told: list[dict[str, object]] = []
        for _ in range(TRIES):
            self._server.play(path)
            with suppress(Empty):
                while True:
                    told.append(self._lines.get(timeout=SOON_S))
                    if told[-1]["kind"] == "Ended":
                        assert "SilenceBegan" in [one["kind"] for one in told], told
                        return told[-1]
                    if told[-1]["kind"] == "Refused":
                        assert told[-1]["code"] in SPOILED, told
                        break
        pytest.fail(f"not heard in {TRIES} tries: {told}")

    def exit_status(self) -> int:
        return self._process.wait(PATIENCE_S)


@pytest.mark.parametrize("rate_hz", [[], ["16000"], ["48000"]], ids=["own rate", "16 kHz", "48 kHz"])
def test_a_person_is_heard_through_the_microphone_at_any_rate(
    server: SoundServer, reader: list[Reading], rate_hz: list[str]
) -> None:
    with Hearing(server, "once", *rate_hz) as hearing:
        hearing.until("Ready")
        ended = hearing.said(reader[1].path)
    assert ended["speech_s"] == pytest.approx(2.7, abs=0.5)
    assert float(str(ended["snr_db"])) > 10.0


def test_a_person_is_heard_by_a_process_that_may_not_write_code_as_the_units_service_runs_it(
    server: SoundServer, reader: list[Reading]
) -> None:
    with Hearing(server, "restricted") as hearing:
        try:
            hearing.until("Ready")
        except pytest.fail.Exception:
            if hearing.exit_status() == 77:
                pytest.skip("this kernel has no PR_SET_MDWE")
            raise
        ended = hearing.said(reader[1].path)
    assert ended["speech_s"] == pytest.approx(2.7, abs=0.5)


def test_pulling_the_plug_is_an_error_and_not_silence(server: SoundServer) -> None:
    with Hearing(server, "once") as hearing:
        hearing.until("Ready")
        server.unplug()
        try:
            assert "microphone" in str(hearing.until("Lost")["message"])
            assert hearing.exit_status() == 0
        finally:
            server.plug_in()


def test_no_microphone_at_all_is_said_in_one_line(server: SoundServer) -> None:
    server.unplug()
    try:
        with Hearing(server, "once") as hearing:
            message = str(hearing.until("Lost")["message"])
    finally:
        server.plug_in()
    assert message.startswith("no microphone can be opened")
    assert "\n" not in message


def test_a_microphone_plugged_in_again_is_heard(server: SoundServer, reader: list[Reading]) -> None:
    with Hearing(server, "again") as hearing:
        hearing.until("Ready")
        playing = server.start_playing(reader[0].path)
        hearing.until("SpeechStarted")
        server.unplug()
        playing.wait(PATIENCE_S)
        try:
            hearing.until("Lost")
        finally:
            server.plug_in()
        hearing.until("Ready")
        assert hearing.said(reader[1].path)["speech_s"] == pytest.approx(2.7, abs=0.5)


def test_a_reader_that_is_late_is_told_how_much_it_missed(server: SoundServer) -> None:
    with Hearing(server, "late") as hearing:
        hearing.until("Ready")
        late = hearing.until("Late")
    assert int(str(late["lost_samples"])) > 8_000
