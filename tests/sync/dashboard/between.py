"""What another thread or worker does between two transactions of a step that takes several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from sync.registry.database.store import Store


@contextlib.contextmanager
def after_the_first_transaction(store: Store, act: Callable[[], object]) -> Iterator[None]:
    """`act` is done once, when the next transaction has ended and before there is another."""
    left = [act]

    def ended(*_: object) -> None:
        if left:
            left.pop()()

    sa.event.listen(store.engine, "checkin", ended)
    try:
        yield
    finally:
        sa.event.remove(store.engine, "checkin", ended)
    assert not left, "there was no transaction"
