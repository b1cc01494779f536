"""Every page ends up with every event, or is told that it must load again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.events.events_query import Filter
from sync.dashboard.live import feed as feeds
from sync.dashboard.live.feed import Feed
from tests.sync.dashboard.conftest import Hospital, happens

DESK = Viewer("desk", "desk", (), "", "")
WALL = Viewer("wall", "wall", (), "", "")
PHARMACIST = Viewer("pharmacist", "auditor", ("st-mary/pharmacy",), "", "")


class Page:
    """An open page: it takes what it is sent, unless it is `stuck`."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.stuck = asyncio.Event()
        self.stuck.set()
        self.told: list[bytes] = []
        self._task = asyncio.create_task(self._take(stream))

    async def _take(self, stream: AsyncIterator[bytes]) -> None:
        async for text in stream:
            self.told.append(text)
            await self.stuck.wait()

    @property
    def keys(self) -> list[str]:
        """Of the events heard, in their order."""
        messages = [text for text in self.told if b"event: events" in text]
        return [event["key"] for text in messages for event in json.loads(text.partition(b"data: ")[2])]

    @property
    def kinds(self) -> set[bytes]:
        return {text.partition(b"event: ")[2].partition(b"\n")[0] for text in self.told if b"event: " in text}

    @property
    def last_id(self) -> str:
        ids = [text.partition(b"id: ")[2].partition(b"\n")[0] for text in self.told if b"id: " in text]
        return ids[-1].decode()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.02)


def looked_at(story: Coroutine[Any, Any, None]) -> None:
    """Runs a story in a thread of its own: the browser of other tests has a loop in this one."""
    with ThreadPoolExecutor(max_workers=1) as own:
        own.submit(asyncio.run, story).result()


def open_page(feed: Feed, viewer: Viewer = DESK, last_id: str = "", wanted: Filter | None = None) -> Page:
    return Page(feed.listen(viewer, wanted or Filter(), last_id, lambda: True))


async def begun(feed: Feed, *pages: Page) -> asyncio.Task[None]:
    """The reader, once it knows from where on events are new, and all pages listen."""
    reader = asyncio.create_task(feed.run())
    await until(lambda: feed.follows and all(page.told for page in pages))
    return reader


async def ended(reader: asyncio.Task[None], *pages: Page) -> None:
    reader.cancel()
    await asyncio.gather(reader, *(page.close() for page in pages), return_exceptions=True)


def test_forty_pages_hear_every_event_once_from_one_question_and_one_text(hospital: Hospital) -> None:
    asked: list[str] = []

    async def story() -> None:
        feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone)
        desks = [open_page(feed) for _ in range(40)]
        wall, elsewhere = open_page(feed, WALL), open_page(feed, PHARMACIST)
        reader = await begun(feed, *desks, wall, elsewhere)
        sa.event.listen(hospital.store.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
        keys = happens(hospital, 30) + happens(hospital, 12, "st-mary/icu-2")
        await until(lambda: all(len(page.keys) >= 42 for page in (*desks, wall)))
        assert all(sorted(page.keys) == sorted(keys) for page in (*desks, wall))
        assert not elsewhere.keys
        first = [text for text in desks[0].told if b"event: events" in text]
        for page in desks[1:]:  # not only equal: the same bytes, written once
            assert all(a is b for a, b in zip(first, [t for t in page.told if b": events" in t], strict=True))
        assert b"person" in first[0]
        assert not [event for event in _events(wall) if event["person_id"] or event["url"]]
        await ended(reader, *desks, wall, elsewhere)

    looked_at(story())
    reads = [text for text in asked if "moved" in text]
    assert 1 <= len(reads) <= 2  # two units, at most one look between their events


def _has(page: Page, count: int) -> bool:
    return len(page.keys) == count


def _events(page: Page) -> list[dict[str, Any]]:
    messages = [text for text in page.told if b"event: events" in text]
    return [event for text in messages for event in json.loads(text.partition(b"data: ")[2])]


def test_a_page_that_takes_nothing_is_told_to_load_again_and_holds_up_nobody(hospital: Hospital) -> None:
    async def story() -> None:
        feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone)
        stuck, quick = open_page(feed), open_page(feed)
        reader = await begun(feed, stuck, quick)
        stuck.stuck.clear()
        keys: list[str] = []
        for _ in range(feeds.QUEUED + 5):
            keys += happens(hospital, 1)
            await until(partial(_has, quick, len(keys)))
        assert quick.keys == keys
        stuck.stuck.set()
        await until(lambda: b"gap" in stuck.kinds)
        later = happens(hospital, 2)
        await until(lambda: stuck.keys[-2:] == later)  # it goes on from there
        assert b"gap" not in quick.kinds
        await ended(reader, stuck, quick)

    looked_at(story())


def test_a_unit_that_brings_more_than_a_page_shows_is_a_gap_that_pages_hear_of(hospital: Hospital) -> None:
    async def story() -> None:
        feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone)
        page = open_page(feed)
        reader = await begun(feed, page)
        keys = happens(hospital, feeds.MOST_AT_ONCE + 3)
        await until(lambda: len(page.keys) >= feeds.MOST_AT_ONCE)
        assert page.keys == keys[3:]
        assert b"gap" in page.kinds
        await ended(reader, page)

    looked_at(story())


def test_a_page_that_comes_back_hears_what_it_missed_and_nothing_twice(hospital: Hospital) -> None:
    async def story() -> None:
        feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone)
        page, other = open_page(feed), open_page(feed)
        reader = await begun(feed, page, other)
        first = happens(hospital, 3)
        await until(lambda: page.keys == first == other.keys)
        await page.close()
        missed = happens(hospital, 4)
        await until(lambda: other.keys == first + missed)
        back = open_page(feed, last_id=page.last_id)
        await until(lambda: back.keys == missed)
        later = happens(hospital, 1)
        await until(lambda: back.keys == missed + later)
        assert b"gap" not in back.kinds
        unknown = open_page(feed, last_id="00000000-3")
        await until(lambda: b"gap" in unknown.kinds)
        await ended(reader, back, other, unknown)

    looked_at(story())


def test_a_session_that_ends_ends_its_stream_however_much_happens(hospital: Hospital) -> None:
    async def story() -> None:
        feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone, beat_s=1.0)
        held = True
        page = Page(feed.listen(DESK, Filter(), "", lambda: held))
        reader = await begun(feed, page)
        held = False
        deadline = time.monotonic() + 60
        while b"ended" not in page.kinds:  # never a second of silence
            assert time.monotonic() < deadline
            happens(hospital, 1)
            await asyncio.sleep(0.2)
        count = len(page.keys)
        happens(hospital, 2)
        await asyncio.sleep(3 * feeds.EVERY_S)
        assert len(page.keys) == count
        await ended(reader, page)

    looked_at(story())
