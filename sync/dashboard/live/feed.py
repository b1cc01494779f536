"""New events to every open page: one reader of the database per process, any number of listeners.

The reader follows how far each unit's log is stored, so nothing is missed and nothing comes twice, whatever
the clocks say. A page that cannot keep up is told to load again instead of slowing down the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.doors import doors
from sync.dashboard.events.events_query import SHOWN, Filter
from sync.dashboard.events.shown import show
from sync.dashboard.site import places
from sync.dashboard.site.places import Place, Places
from sync.dashboard.wording import languages
from sync.dashboard.wording.words import GROUPS
from sync.registry.schema import events, units
from sync.registry.store import Store, StoreError

log = logging.getLogger(__name__)

EVERY_S = 0.5
BEAT_S = 10.0
MOST_AT_ONCE = 5000
KEPT = 5000
QUEUED = 50
MOST_LISTENERS = 1000


@dataclass(frozen=True, slots=True)
class News:
    """One new event, ready for both kinds of page."""

    number: int
    row: Any
    place: Place
    texts: Mapping[tuple[str, bool], str]
    """By language and by whether a wall display asks."""


@dataclass(slots=True, eq=False)
class Listener:
    """One open page."""

    viewer: Viewer
    wanted: Filter
    language: str = "en"
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(QUEUED))
    behind: bool = False


class Feed:
    """`run` until cancelled; `listen` yields the lines of one page's stream."""

    def __init__(
        self,
        store: Store,
        now_ms: Callable[[], int],
        time_zone: dt.tzinfo,
        chores: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`chores` is done before each look, with the time: what is due must not need a visitor."""
        self._store = store
        self._chores = chores
        self._now_ms = now_ms
        self._zone = time_zone
        self._sizes: dict[str, int] | None = None
        self._listeners: set[Listener] = set()
        self._kept: deque[News] = deque(maxlen=KEPT)
        self._nonce = secrets.token_hex(4)
        self._number = 0
        self.stale_since_ms: int | None = None

    async def run(self) -> None:
        while True:
            try:
                news = await run_in_threadpool(self._read)
                if self.stale_since_ms is not None:
                    self.stale_since_ms = None
                    self._tell_all("event: fresh\ndata: {}\n\n")
                self._publish(news)
            except StoreError as err:
                if self.stale_since_ms is None:
                    self.stale_since_ms = self._now_ms()
                    log.warning("%s", err)
                    self._tell_all(self._stale())
            except Exception:
                # Whatever it was, the pages must say that they are not up to date, and the next look may do.
                log.exception("new events could not be read")
                if self.stale_since_ms is None:
                    self.stale_since_ms = self._now_ms()
                    self._tell_all(self._stale())
            await asyncio.sleep(EVERY_S)

    async def listen(
        self, viewer: Viewer, wanted: Filter, last_id: str, still: Callable[[], bool], language: str = "en"
    ) -> AsyncIterator[str]:
        """Server-sent events for one page, from behind `last_id` on; ends when `still` says no."""
        me = Listener(viewer, wanted, language)
        self._listeners.add(me)
        try:
            yield f"retry: 2000\nid: {self._nonce}-{self._number}\nevent: hello\ndata: {{}}\n\n"
            if self.stale_since_ms is not None:
                yield self._stale()
            if last_id:
                yield self._since(me, last_id)
            while True:
                try:
                    message = await asyncio.wait_for(me.queue.get(), BEAT_S)
                    if not message:
                        return  # the server stops; the page connects again when it is back
                    yield message
                except TimeoutError:
                    try:
                        if not await run_in_threadpool(still):
                            yield "event: ended\ndata: {}\n\n"
                            return
                    except StoreError:
                        pass  # the reader has said already that the database does not answer
                    yield ": still here\n\n"
                if me.behind:
                    me.behind = False
                    yield "event: gap\ndata: {}\n\n"
        finally:
            self._listeners.discard(me)

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST_LISTENERS

    def close(self) -> None:
        """End every stream, so that the server can stop at once."""
        for listener in self._listeners:
            if listener.queue.full():
                listener.queue.get_nowait()
            listener.queue.put_nowait("")

    def _read(self) -> list[News]:
        """What was stored since the last call. Raises StoreError; then the next call reads it."""
        self._chores(self._now_ms())
        with self._store.reading() as db:
            sizes = {row.unit: row.size for row in db.execute(sa.select(units.c.unit, units.c.size))}
            before = self._sizes
            if before is None:
                self._sizes = sizes
                return []
            moved = {unit: size for unit, size in sizes.items() if size > before.get(unit, 0)}
            if not moved:
                return []
            known = places.load(db)
            rows: list[Any] = []
            for unit, size in moved.items():
                mine = (
                    events.c.unit == unit,
                    events.c.sequence > before.get(unit, 0),
                    events.c.sequence <= size,
                )
                # A unit that was cut off brings thousands: the newest are news, the rest is in the list.
                query = sa.select(*SHOWN).where(*mine).order_by(events.c.sequence.desc()).limit(MOST_AT_ONCE)
                rows += reversed(db.execute(query).all())
        self._sizes = sizes
        rows.sort(key=lambda row: (row.time_ms, row.unit, row.sequence))
        return [self._news(row, known) for row in rows[-MOST_AT_ONCE:]]

    def _news(self, row: Any, known: Places) -> News:
        self._number += 1
        place = places.place_of(known, row.unit, row.door)
        texts = {}
        for language in {"en"} | {listener.language for listener in self._listeners}:
            languages.choose(language)
            for public in (False, True):
                shown = show(row, known, self._zone, public=public).as_json()
                state = doors.state_after(row.kind, public=public)
                if state is not None:
                    state[0] = languages.word(state[0])
                texts[language, public] = json.dumps({**shown, "door": place.key, "state": state})
        return News(self._number, row, place, texts)

    def _publish(self, news: list[News]) -> None:
        self._kept.extend(news)
        if not news:
            return
        for listener in self._listeners:
            message = self._message(listener, news)
            if message:
                self._tell(listener, message)

    def _message(self, listener: Listener, news: list[News]) -> str:
        wording = (listener.language, listener.viewer.public)
        wanted = [n for n in news if matches(listener, n.row, n.place, self._zone)]
        if not wanted:
            return ""
        data = ",".join(n.texts.get(wording, n.texts["en", wording[1]]) for n in wanted)
        return f"id: {self._nonce}-{news[-1].number}\nevent: events\ndata: [{data}]\n\n"

    def _since(self, listener: Listener, last_id: str) -> str:
        nonce, _, number = last_id.partition("-")
        known = nonce == self._nonce and number.isdigit() and len(number) < 12
        oldest = self._kept[0].number if self._kept else self._number + 1
        if not known or int(number) < oldest - 1:
            return "event: gap\ndata: {}\n\n"
        return self._message(listener, [n for n in self._kept if n.number > int(number)])

    def _stale(self) -> str:
        return f"event: stale\ndata: {json.dumps({'since_ms': self.stale_since_ms})}\n\n"

    def _tell_all(self, message: str) -> None:
        for listener in self._listeners:
            self._tell(listener, message)

    def _tell(self, listener: Listener, message: str) -> None:
        try:
            listener.queue.put_nowait(message)
        except asyncio.QueueFull:
            listener.behind = True


def matches(listener: Listener, row: Any, place: Place, zone: dt.tzinfo) -> bool:
    """Whether an event is for this page: what `events_query` asks the database, for one row."""
    scopes = listener.viewer.scopes
    if scopes and not {place.site, f"{place.site}/{place.zone}"} & set(scopes):
        return False
    wanted = listener.wanted
    if wanted.kind:
        if row.kind != wanted.kind:
            return False
    elif wanted.show and row.kind not in GROUPS[wanted.show][1]:
        return False
    exact: Mapping[str, str] = {
        "reason": row.reason, "unit": row.unit, "door": row.door, "person": row.person or "",
        "site": place.site, "zone": place.zone,
    }  # fmt: skip
    if any(getattr(wanted, name) not in ("", value) for name, value in exact.items()):
        return False
    return wanted.holds_at(row.time_ms, zone)
