"""New events to every open page: one reader of the database per process, any number of listeners.

The reader follows how far each unit's log is stored, so nothing is missed and nothing comes twice, whatever
the clocks say. Each look asks the database once and writes each event once for all pages of the same rights,
filter and language. A page that cannot keep up loses its queue and is told to load again, and so are pages
when a unit brings more at once than a page could show: no page lacks an event without knowing it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.events.events_query import Filter, between
from sync.dashboard.live.audience import Audience, News, Wording, message, news_of
from sync.dashboard.site import places
from sync.dashboard.site.places import Places
from sync.registry.database.schema import units
from sync.registry.database.store import Store, StoreError

log = logging.getLogger(__name__)

EVERY_S = 0.5
BEAT_S = 10.0
"""How often a stream checks that its session still holds."""
MOST_AT_ONCE = 5000
KEPT = 5000
QUEUED = 20
MOST_LISTENERS = 1000
GAP = b"event: gap\ndata: {}\n\n"
_END = b""


@dataclass(slots=True, eq=False)
class Listener:
    """One open page."""

    audience: Audience
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUED))

    def tell(self, text: bytes) -> None:
        """Queue a message; a page whose queue is full gets `GAP` alone: it loads again."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            text = GAP
        self.queue.put_nowait(text)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the database found. `gap`: there was more than a page could show."""

    rows: Sequence[Any] = ()
    known: Places = field(default_factory=dict)
    gap: bool = False


class Feed:
    """`run` until cancelled; `listen` yields the bytes of one page's stream."""

    def __init__(
        self, store: Store, now_ms: Callable[[], int], time_zone: dt.tzinfo, beat_s: float = BEAT_S
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._zone = time_zone
        self._beat_s = beat_s
        self._sizes: dict[str, int] | None = None
        self._listeners: set[Listener] = set()
        self._kept: deque[News] = deque(maxlen=KEPT)
        self._known: Places = {}
        self._nonce = secrets.token_hex(4)
        self._number = 0
        self.stale_since_ms: int | None = None

    async def run(self) -> None:
        while True:
            try:
                look = await run_in_threadpool(self._read)
                if self.stale_since_ms is not None:
                    self.stale_since_ms = None
                    self._tell_all(b"event: fresh\ndata: {}\n\n")
                await self._publish(look)
            except StoreError as err:
                if self._tell_stale():
                    log.warning("%s", err)
            except Exception:
                log.exception("new events could not be read; the next look may succeed")
                self._tell_stale()
            await asyncio.sleep(EVERY_S)

    async def listen(
        self, viewer: Viewer, wanted: Filter, last_id: str, still: Callable[[], bool], language: str = "en"
    ) -> AsyncIterator[bytes]:
        """Server-sent events for one page, from behind `last_id` on; ends when `still` says no."""
        me = Listener(Audience(viewer.scopes, wanted, language, viewer.public))
        # From here on everything newer than `number` comes through the queue, and nothing older does.
        number, missed = self._number, self._missed(last_id)
        self._listeners.add(me)
        try:
            hello = f"id: {self._nonce}-{number}\nevent: hello\ndata: {{}}\n\n"
            if missed is None:
                yield b"retry: 2000\n" + GAP
            elif missed and (text := await run_in_threadpool(self._messages, {me.audience}, missed)):
                yield b"retry: 2000\n" + text.get(me.audience, b"")
            yield f"retry: 2000\n{hello}".encode()
            if self.stale_since_ms is not None:
                yield self._stale()
            due_s = time.monotonic() + self._beat_s
            while True:
                try:
                    wait_s = max(0.0, due_s - time.monotonic())
                    heard = await asyncio.wait_for(me.queue.get(), wait_s)
                    if heard == _END:
                        return  # the server stops; the page connects again when it is back
                    yield heard
                except TimeoutError:
                    yield b": still here\n\n"
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + self._beat_s
                    try:
                        if not await run_in_threadpool(still):
                            yield b"event: ended\ndata: {}\n\n"
                            return
                    except StoreError:
                        pass  # the reader has said already that the database does not answer
        finally:
            self._listeners.discard(me)

    @property
    def follows(self) -> bool:
        """Whether it has read where the logs end: every later event is told."""
        return self._sizes is not None

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST_LISTENERS

    def close(self) -> None:
        """End every stream, so that the server can stop at once."""
        for listener in self._listeners:
            if listener.queue.full():
                listener.queue.get_nowait()
            listener.queue.put_nowait(_END)

    def _read(self) -> _Look:
        """What was stored since the last call. Raises StoreError; then the next call reads it."""
        with self._store.reading() as db:
            sizes = {row.unit: row.size for row in db.execute(sa.select(units.c.unit, units.c.size))}
            before = self._sizes
            if before is None:
                self._sizes = sizes
                return _Look()
            moved = {unit: size for unit, size in sizes.items() if size > before.get(unit, 0)}
            if not moved:
                self._sizes = sizes
                return _Look()
            known = places.load(db)
            # A unit that was cut off brings thousands: the newest are news, the rest is in the list.
            spans = [
                (unit, max(before.get(unit, 0), size - MOST_AT_ONCE), size) for unit, size in moved.items()
            ]
            rows = between(db, spans)
        self._sizes = sizes
        rows.sort(key=lambda row: (row.time_ms, row.unit, row.sequence))
        new = sum(size - before.get(unit, 0) for unit, size in moved.items())
        return _Look(rows[-MOST_AT_ONCE:], known, gap=new > min(len(rows), MOST_AT_ONCE))

    async def _publish(self, look: _Look) -> None:
        """Write once for each audience, beside the loop; then queue for every page at once."""
        if not look.rows:
            return
        self._known = look.known
        news = news_of(look.rows, look.known, self._number)
        texts: dict[Audience, bytes] = {}
        done: set[Audience] = set()
        while missing := {listener.audience for listener in self._listeners} - done:
            texts |= await run_in_threadpool(self._messages, missing, news)
            done |= missing
        # Nothing waits from here on: a listener of now hears all of it, one who comes later none.
        self._kept.extend(news)
        self._number = news[-1].number
        for listener in self._listeners:
            if look.gap:
                listener.tell(GAP)
            if text := texts.get(listener.audience):
                listener.tell(text)

    def _messages(self, audiences: set[Audience], news: Sequence[News]) -> dict[Audience, bytes]:
        written: Wording = {}
        last = f"id: {self._nonce}-{news[-1].number}"
        found = {}
        for audience in audiences:
            if data := message(audience, news, self._known, self._zone, written):
                found[audience] = f"{last}\nevent: events\ndata: [{data}]\n\n".encode()
        return found

    def _missed(self, last_id: str) -> list[News] | None:
        """What came after `last_id`; None when that is not known any more."""
        if not last_id:
            return []
        nonce, _, text = last_id.partition("-")
        oldest = self._kept[0].number if self._kept else self._number + 1
        known = nonce == self._nonce and text.isascii() and text.isdigit() and len(text) < 12
        if not known or int(text) < oldest - 1:
            return None
        return [n for n in self._kept if n.number > int(text)]

    def _stale(self) -> bytes:
        return f"event: stale\ndata: {json.dumps({'since_ms': self.stale_since_ms})}\n\n".encode()

    def _tell_stale(self) -> bool:
        """Tell the pages that they are not up to date; False where they know already."""
        if self.stale_since_ms is not None:
            return False
        self.stale_since_ms = self._now_ms()
        self._tell_all(self._stale())
        return True

    def _tell_all(self, text: bytes) -> None:
        for listener in self._listeners:
            listener.tell(text)
