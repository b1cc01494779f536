from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.audio.buffers import SampleHistory, SampleQueue
from tests.kept import is_overwritten


def counting(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.int16)


@given(sizes=st.lists(st.integers(1, 10), max_size=20))
def test_a_history_holds_exactly_the_latest_samples(sizes: list[int]) -> None:
    history, total = SampleHistory(10), 0
    for size in sizes:
        history.append(counting(total, size))
        total += size
    assert history.end == total
    assert history.copy(history.begin).tolist() == list(range(max(0, total - 10), total))


def test_a_history_refuses_positions_it_no_longer_holds() -> None:
    history = SampleHistory(10)
    history.append(counting(0, 8))
    history.append(counting(8, 8))
    with pytest.raises(IndexError):
        history.copy(5)
    with pytest.raises(IndexError):
        history.copy(17)
    assert history.copy(16).size == 0


def test_a_copy_from_a_history_is_the_callers_own() -> None:
    history = SampleHistory(10)
    history.append(counting(1, 5))
    copy = history.copy(0)
    history.wipe()
    assert copy.tolist() == [1, 2, 3, 4, 5]
    assert is_overwritten(history)


def test_a_queue_gives_back_what_was_put_in_order() -> None:
    queue = SampleQueue(100)
    queue.put(counting(0, 30))
    queue.put(counting(30, 30))
    taken = queue.take(0.0)
    assert taken is not None
    assert taken[0].tolist() == list(range(60))
    assert taken[1] == 0
    assert is_overwritten(queue)


def test_a_reader_that_is_late_gets_no_stale_samples_but_their_count() -> None:
    queue = SampleQueue(100)
    for start in range(0, 250, 50):
        queue.put(counting(start, 50))
    taken = queue.take(0.0)
    assert taken is not None
    samples, lost = taken
    assert samples.tolist() == list(range(200, 250))
    assert lost == 200


def test_samples_that_the_driver_lost_are_counted() -> None:
    queue = SampleQueue(100)
    queue.put(counting(0, 10), lost=7)
    taken = queue.take(0.0)
    assert taken is not None
    assert taken[1] == 7
    queue.put(counting(10, 10))
    after = queue.take(0.0)
    assert after is not None
    assert after[1] == 0, "each loss is told once"


def test_a_block_larger_than_the_queue_is_lost_whole() -> None:
    queue = SampleQueue(10)
    queue.put(counting(0, 11))
    assert queue.take(0.0) is None
    queue.put(counting(11, 5))
    taken = queue.take(0.0)
    assert taken is not None
    assert taken[1] == 11


def test_waiting_for_samples_ends_when_the_queue_is_closed() -> None:
    queue = SampleQueue(10)
    threading.Timer(0.05, queue.close).start()
    assert queue.take(30.0) is None


def test_what_waits_in_a_closed_queue_is_still_given() -> None:
    queue = SampleQueue(10)
    queue.put(counting(1, 5))
    queue.close()
    taken = queue.take(0.0)
    assert taken is not None
    assert taken[0].tolist() == [1, 2, 3, 4, 5]


def test_a_wiped_queue_holds_nothing() -> None:
    queue = SampleQueue(10)
    queue.put(counting(1, 5))
    queue.wipe()
    assert is_overwritten(queue)
    assert queue.take(0.0) is None
