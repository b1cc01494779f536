"""A service that is told to stop stops, also where Python drops what the signal raised."""

from __future__ import annotations

import gc
import os
import signal

import pytest

from sync.service.terminated import Terminated


class AskedToStopWhileTakenDown:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1_000))  # the handler runs between two steps of this


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_came_while_an_object_was_taken_down_is_seen_at_the_next_look() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    terminated = Terminated.heeded()
    try:
        terminated.look()
        going = AskedToStopWhileTakenDown()
        del going
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            terminated.look()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
