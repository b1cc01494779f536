"""`ostiary watch` on a named pipe, as another program on the unit would feed it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device.audio.utterance import FRAME_SAMPLES, Frame, Samples
from device.commands.conversation.watch import events
from device.conversation.opening import ConversationModels
from device.conversation.streams.stream import Stream
from device.conversation.turns import Turn
from sync.service.terminated import Terminated
from tests.device.conversation.test_files import run


def test_a_pipe_is_followed_to_its_end_and_a_claim_of_nobody_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    talking_models: Path,
    talk: tuple[Samples, list[Turn]],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(talking_models))
    pipe = tmp_path / "microphone"
    os.mkfifo(pipe)
    sound = talk[0][: 12 * 16_000].astype("<i2").tobytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(sound,))
    writer.start()
    code, out, _ = run(monkeypatch, capsys, "watch", "--source", pipe, "--json")
    writer.join()
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["event"] for event in events] == ["turns"] * 5
    assert events[-1]["at_s"] == pytest.approx(12.0, abs=0.1)
    assert "speaker-1" in {turn["speaker"] for event in events for turn in event["turns"]}
    code, _, err = run(monkeypatch, capsys, "watch", "--source", pipe, "--claim", "4711")
    assert code == 1
    assert "nobody is enrolled" in err
    assert "Traceback" not in err


class EndlessSilence:
    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        while not stop.is_set():
            yield Frame(np.zeros(FRAME_SAMPLES, np.int16))


def test_a_stop_that_python_dropped_ends_it_at_the_next_frame(
    conversation_models: ConversationModels,
) -> None:
    terminated, stop = Terminated(), threading.Event()
    with contextlib.suppress(KeyboardInterrupt):  # as where Python drops it
        terminated(signal.SIGTERM, None)
    with contextlib.closing(Stream(conversation_models)) as stream, pytest.raises(KeyboardInterrupt):
        for _ in events(stream, EndlessSilence(), stop, terminated.look):
            pass
