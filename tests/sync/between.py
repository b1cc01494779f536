"""What another thread or worker does while a step is under way that takes several moments."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from sync.events import Signer
from sync.registry.database.store import Store
from tests.waiting import wait_until

Act = Callable[[], object]


@contextlib.contextmanager
def after_the_first_transaction(store: Store, act: Act) -> Iterator[None]:
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


class Other:
    """Another worker: `begin` returns once it has done `act`, or waits for somebody on PostgreSQL."""

    def __init__(self, store: Store, act: Act) -> None:
        self._store, self._act = store, act
        self._thread = threading.Thread(target=self._run)
        self.failed: list[Exception] = []

    def begin(self) -> None:
        self._thread.start()
        wait_until(lambda: not self._thread.is_alive() or self._waits())

    def end(self) -> list[Exception]:
        """What it failed with."""
        self._thread.join()
        return self.failed

    def _run(self) -> None:
        try:
            self._act()
        except Exception as err:  # noqa: BLE001 - the test looks at it
            self.failed.append(err)

    def _waits(self) -> bool:
        blocked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with self._store.reading() as db:
            return bool(db.execute(blocked).scalar_one())


class Interrupted:
    """A signer that signs first of all once `act` has been done."""

    def __init__(self, signer: Signer, act: Act) -> None:
        self._signer, self._left = signer, [act]

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._signer.public_key()

    def sign(self, message: bytes) -> bytes:
        if self._left:
            self._left.pop()()
        return self._signer.sign(message)
