"""One answer and its judgement, where the judgement does not end."""

from __future__ import annotations

import threading

from device.audio import AudioSettings, FileSource
from device.evidence.judge import JudgeError
from device.evidence.listener import AnswerProgress, Listener
from tests.speech import Reading
from tests.waiting import wait_until

PATIENCE_S = 180.0


class Hung:
    """A judge whose native code never comes back, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def __call__(self, *_: object) -> None:
        self.released.wait(PATIENCE_S)


def test_a_judgement_that_never_ends_is_a_refusal_first_and_then_a_part_that_stands_still(
    reader: list[Reading],
) -> None:
    judge = Hung()
    ear = Listener(judge, AudioSettings(), timeout_s=0.01)  # type: ignore[arg-type]
    try:
        answer = ear.hear(
            FileSource(reader[0].path),
            "",
            None,  # type: ignore[arg-type]
            start_within_s=PATIENCE_S,
            stop=threading.Event(),
            progress=AnswerProgress(),
        )
        assert isinstance(answer.heard, JudgeError)
        wait_until(ear.stuck)
        assert "a judgement has not ended" in ear.stuck()
    finally:
        judge.released.set()
        ear.close()
    assert ear.stuck() == ""
