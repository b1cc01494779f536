"""Orders to a running unit."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from device.uplink.orders import Action, Order, OrderError, await_done, done, post, waiting


def test_orders_are_found_in_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    given = [Order(Action.LOCK_DOWN, "*"), Order(Action.PARDON, "4f2a"), Order(Action.END_LOCK_DOWN, "*")]
    for order in given:
        post(tmp_path, order)
    assert [order for _, order in waiting(tmp_path)] == given


def test_the_one_who_gave_an_order_hears_that_it_was_obeyed_or_why_not(tmp_path: Path) -> None:
    path = post(tmp_path, Order(Action.PARDON, "4f2a"))
    threading.Timer(0.1, done, (path,)).start()
    await_done(path)
    path = post(tmp_path, Order(Action.PARDON, "4f2a"))
    threading.Timer(0.1, done, (path, "no")).start()
    with pytest.raises(OrderError, match=r"^no$"):
        await_done(path)
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_nobody_takes_is_withdrawn(tmp_path: Path) -> None:
    path = post(tmp_path, Order(Action.PARDON, "4f2a"))
    with pytest.raises(OrderError, match="did not take"):
        await_done(path, within_s=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"action": "open_door", "subject": ""}', b'{"action": "pardon"}',
        b'{"action": "pardon", "subject": 7}', b'{"action": "pardon", "subject": "' + b"x" * 2000 + b'"}',
    ],
)  # fmt: skip
def test_what_is_no_order_is_thrown_away(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.order").write_bytes(content)
    post(tmp_path, Order(Action.LOCK_DOWN, "*"))
    assert [order.action for _, order in waiting(tmp_path)] == [Action.LOCK_DOWN]
    assert not (tmp_path / "1.order").exists()


def test_an_order_that_the_unit_cannot_read_is_no_order_that_was_obeyed(tmp_path: Path) -> None:
    path = post(tmp_path, Order(Action.LOCK_DOWN, "*"))
    path.write_bytes(b"{")
    assert list(waiting(tmp_path)) == []
    with pytest.raises(OrderError, match="could not read the order: not an order"):
        await_done(path)
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_is_withdrawn_while_others_are_read_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        post(tmp_path, Order(Action.PARDON, "4f2a"))
    found = waiting(tmp_path)
    first, _ = next(found)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.unlink()
    assert list(found) == []
    assert list(tmp_path.iterdir()) == [first]


def test_there_is_no_order_that_lets_somebody_in() -> None:
    """A hold is the one that unlocks: until an hour, and only where the door's rules say `may_be_held`.
    A visit takes away what the rules give, and lifting one gives no more than they do."""
    assert {str(action) for action in Action} == {
        *("lock_down", "end_lock_down", "pardon", "adopt_rules", "forget", "trust_clock"),
        *("erase", "rotate_keys", "adopt_models", "adopt_threats", "hold_open", "end_hold"),
        *("limit_visit", "lift_visit"),
    }
