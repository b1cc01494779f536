"""How fast the dashboard answers over a large registry, and whether its live list keeps up.

    python -m bench.registry.dashboard --events 1000000 --doors 1000
    python -m bench.registry.dashboard --events 10000000 --copies 10 --doors 1000 --database postgresql://...

Fills a database with simulated events (through the registry's own insert, not signed; the database can make
copies of each, some seconds apart, and so ten million in minutes), serves the page in a
process of its own, and asks for each page over HTTP, one after the other, as a logged-in auditor. Then
stores events at a steady rate while pages listen, and reports how late each arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import sqlalchemy as sa

from bench.units.memory_log import simulated_event
from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.demo.demo_places import demo_places
from sync.dashboard.insight import counted
from sync.dashboard.migrations import analyse, prepare
from sync.dashboard.site.places import replace
from sync.event_form import read_event
from sync.events import Record, UnitId
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.schema import events as event_table
from sync.registry.database.schema import units
from sync.registry.database.store import Store

PASSWORD = "only for measuring"  # noqa: S105 - of a database that lives as long as this run
KEY = b"nobody is behind these pseudonyms"
DAY_MS = 86_400_000
CHUNK = 20_000
SERVED: list[int] = []
"""Process ids of the pages that were served."""


def fill(store: Store, events: int, doors: int, now_ms: int, copies: int = 1) -> None:
    """`events` over a year at `doors` doors, in the order of their times; the database makes the `copies`."""
    events //= copies
    made = _indexes(store, drop=True) if copies > 1 else []
    dice = random.Random(1)
    key = key_to_der(FileSigner.generate().public_key())
    places = demo_places(doors)
    replace(store, places)
    for place in places:
        store.register(UnitId(place.unit), key, now_ms - 365 * DAY_MS)
    sizes = dict.fromkeys((place.unit for place in places), 0)
    for start in range(0, events, CHUNK):
        rows = []
        for number in range(start, min(events, start + CHUNK)):
            at_ms = now_ms - 365 * DAY_MS + int(number / events * 365 * DAY_MS)
            unit = dice.choice(places).unit
            sizes[unit] += 1
            sequence = (sizes[unit] - 1) * copies + 1
            body = Record(UnitId(unit), sequence, simulated_event(dice, KEY, at_ms, 0)).to_bytes()
            rows.append((read_event(body), body, at_ms))
        with store.transaction() as db:
            store.add_events(db, rows)
        print(f"\r{start + len(rows):>10} events", end="", file=sys.stderr)
    if copies > 1:
        _copy(store, copies, 365 * DAY_MS // events // copies)
    for again in made:
        with store.transaction() as db:
            db.execute(sa.text(again))
    with store.transaction() as db:
        statement = units.update().where(units.c.unit == sa.bindparam("b_unit"))
        db.execute(
            statement,
            [{"b_unit": unit, "size": size * copies, "seen_ms": now_ms} for unit, size in sizes.items()],
        )
    analyse(store)
    print(file=sys.stderr)


def _indexes(store: Store, *, drop: bool) -> list[str]:
    """What makes the indexes on the events again, the key's apart."""
    query = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'events'"
    query += " AND indexname <> 'events_pkey'"
    with store.transaction() as db:
        if db.dialect.name == "sqlite":
            query = "SELECT name AS indexname, sql AS indexdef FROM sqlite_master"
            query += " WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL"
        found = db.execute(sa.text(query)).all()
        for row in found if drop else ():
            db.execute(sa.text(f"DROP INDEX {row.indexname}"))
    # Of a partitioned table the definition says ONLY: without its partitions.
    return [row.indexdef.replace(" ON ONLY ", " ON ") for row in found]


def _copy(store: Store, copies: int, apart_ms: int) -> None:
    """Each event some moments later again, in its unit's next places; the bodies stay those of the first."""
    columns = [column.name for column in event_table.columns]
    changed = {
        "sequence": "sequence + :copy",
        "received_ms": "received_ms + :later",
        "time_ms": "time_ms + :later",
        "event_id": "event_id || '-' || :copy",
    }
    asked = ", ".join(changed.get(name, name) for name in columns)
    text = (
        f"INSERT INTO events ({', '.join(columns)}) SELECT {asked} FROM events WHERE sequence % :copies = 1"  # noqa: S608
    )
    for copy in range(1, copies):
        with store.transaction() as db:
            db.execute(sa.text(text), {"copy": copy, "copies": copies, "later": copy * apart_ms})
        print(f"\r{copy + 1:>10} of each", end="", file=sys.stderr)


@contextlib.contextmanager
def serving(database: str, port: int) -> Iterator[str]:
    origin = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("ostiary")), "dashboard", "serve"]
    command += ["--database", database, "--address", origin]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    SERVED.append(process.pid)
    for line in process.stderr or ():
        if "The dashboard is at" in line:
            break
    try:
        yield origin
    finally:
        process.terminate()
        process.wait(30)


def measure(client: httpx.Client, path: str, rounds: int) -> tuple[float, float, float]:
    """(median, p95, processor time of the server each) in milliseconds, from request to the last byte."""
    times, used_s = [], _processor_s()
    for _ in range(rounds):
        began = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - began) * 1e3)
        answer.raise_for_status()
    each_ms = (_processor_s() - used_s) / rounds * 1e3
    return statistics.median(times), statistics.quantiles(times, n=20)[18], each_ms


def pages(client: httpx.Client, rounds: int, only: str = "") -> None:
    first = client.get("/events").text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    person = re.search(r"/people/([0-9a-f-]+)", first)
    asked = {
        "events, first page": "/events",
        "events, second page": older[1].replace("&amp;", "&") if older else "/events",
        "events, refused": "/events?show=refused",
        "events, attacks": "/events?show=attacks",
        "events, alarms (there are none)": "/events?show=alarms",
        "events, one kind": "/events?kind=DENIED_SPOOF",
        "events, one reason": "/events?reason=not_live",
        "events, one reason that never was": "/events?reason=duress_word",
        "events, one door": "/events?door=st-mary/icu-1/door-1",
        "events, one door, attacks": "/events?door=st-mary/icu-1/door-1&show=attacks",
        "events, one zone": "/events?zone=pharmacy",
        "events, one zone and reason": "/events?zone=pharmacy&reason=other_voice",
        "events, one site": "/events?site=harbour-clinic",
        "events, one site and kind": "/events?site=harbour-clinic&kind=DENIED_SPOOF",
        "events, a day half a year ago": "/events?since=2026-05-20&until=2026-05-20",
        "events, one person": f"/events?person={person[1]}" if person else "/events",
        "one person": f"/people/{person[1]}" if person else "/events",
        "doors": "/doors",
        "one door": "/doors/st-mary/icu-1/door-1",
        "attacks, a year": "/attacks?days=365",
        "attacks, 30 days": "/attacks?days=30",
        "units and models": "/health-of-units",
        "proofs": "/proofs",
    }
    print(f"{'page':<40} {'median ms':>10} {'p95 ms':>10} {'processor ms':>13}")
    for name, path in asked.items():
        if not name.startswith(only):
            continue
        median, p95, used = measure(client, path, rounds)
        print(f"{name:<40} {median:>10.0f} {p95:>10.0f} {used:>13.0f}", flush=True)


class Stream:
    """One open page: counts events, keeps how late each came, and knows whether it was told to load again."""

    def __init__(self, timed: bool) -> None:
        self.timed = timed
        self.ready = asyncio.Event()
        self.heard = 0
        self.gaps = 0
        self.late: list[float] = []

    async def listen(self, port: int, cookies: str) -> None:
        # A socket and no more: two hundred pages are two hundred browsers, not one slow client's threads.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        writer.write(f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookies}\r\n\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"event: hello"):
                self.ready.set()
            elif line.startswith(b"event: gap"):
                self.gaps += 1
            elif line.startswith(b"data: ["):
                self.heard += line.count(b'{"key": ')
                if self.timed:
                    now_ms = time.time() * 1e3
                    self.late += [now_ms - event["time_ms"] for event in json.loads(line[6:])]


def store_events(store: Store, rate: int, seconds: int) -> int:
    """As a worker stores them, at a steady rate; how many."""
    dice, places, sent = random.Random(2), demo_places(40), 0
    with store.reading() as db:
        sizes = {row.unit: row.size for row in db.execute(units.select())}
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        due = int((time.monotonic() - began) * rate) - sent
        rows, moved = [], {}
        for _ in range(due):
            unit = dice.choice(places).unit
            sizes[unit] += 1
            now_ms = time.time_ns() // 1_000_000
            body = Record(UnitId(unit), sizes[unit], simulated_event(dice, KEY, now_ms, 0)).to_bytes()
            rows.append((read_event(body), body, now_ms))
            moved[unit] = sizes[unit]
        if rows:
            with store.transaction() as db:
                store.add_events(db, rows)
                for unit, size in moved.items():
                    db.execute(units.update().where(units.c.unit == unit).values(size=size))
            sent += len(rows)
        time.sleep(0.05)
    return sent


async def live(store: Store, cookies: str, port: int, rate: int, seconds: int, listeners: int) -> None:
    """Events at `rate` a second while `listeners` pages listen: how late, and whether any was lost."""
    pages = [Stream(timed=number == 0) for number in range(listeners)]
    tasks = [asyncio.create_task(page.listen(port, cookies)) for page in pages]
    await asyncio.gather(*(asyncio.wait_for(page.ready.wait(), 120) for page in pages))
    await asyncio.sleep(1.5)
    used_s = _processor_s()
    sent = await asyncio.to_thread(store_events, store, rate, seconds)
    began, last = time.monotonic(), -1.0
    while min(page.heard for page in pages) < sent and time.monotonic() - began < 120:
        await asyncio.sleep(0.05)
    last = time.monotonic() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    heard = [page.heard for page in pages]
    lacking = sum(page.heard < sent and not page.gaps for page in pages)
    cuts = statistics.quantiles(pages[0].late, n=20)
    print(f"live, {rate} a second, {listeners} pages, load {os.getloadavg()[0]:.1f}: {sent} sent,")
    print(
        f"  {min(heard)} to {max(heard)} heard by each, {sum(p.gaps > 0 for p in pages)} told to load again,"
    )
    print(
        f"  {lacking} lack events without knowing; the slowest page had the last {last:.1f} s after the end"
    )
    print(f"  door to page p50 {statistics.median(pages[0].late):.0f} ms, p95 {cuts[18]:.0f} ms;", end=" ")
    print(f"the page's process used {_processor_s() - used_s:.1f} s of a processor")


def _processor_s() -> float:
    """Of the process that serves the page."""
    ticks = Path(f"/proc/{SERVED[-1]}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--doors", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1, help="of each event, made by the database itself")
    parser.add_argument("--filled", action="store_true", help="the database is filled by an earlier run")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--port", type=int, default=8799)
    parser.add_argument("--database", help="an empty one; else a temporary SQLite file")
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--listeners", type=int, default=20)
    parser.add_argument("--only", default="", help="pages whose name begins so, such as `events`")
    parser.add_argument("--only-live", action="store_true", help="no pages, the live stream alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as folder:
        database = options.database or f"sqlite:///{folder}/registry.db"
        store = Store.open(database)
        prepare(store)
        now_ms = time.time_ns() // 1_000_000
        if not options.filled:
            fill(store, options.events, options.doors, now_ms, options.copies)
        accounts = Accounts(store)
        name = f"bench-{now_ms}"
        accounts.accept(accounts.invite("admin", (), "bench", now_ms), name, PASSWORD, now_ms)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        size = f"{options.events} events, {options.doors} doors, {database.partition(':')[0]}"
        print(f"{machine}; {size}, {options.rounds} rounds")
        began = time.monotonic()
        counted.count_due(store, dt.UTC, now_ms)
        print(f"the figures of all doors took {time.monotonic() - began:.1f} s to count, once an hour")
        with serving(database, options.port) as origin:
            limits = httpx.Limits(max_connections=500)
            with httpx.Client(
                base_url=origin, headers={"Origin": origin}, limits=limits, timeout=60
            ) as client:
                client.post("/login", data={"account": name, "password": PASSWORD})
                if not options.only_live:
                    pages(client, options.rounds, options.only)
                cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
                asyncio.run(live(store, cookies, options.port, options.rate, 10, options.listeners))
        store.close()


if __name__ == "__main__":
    main()
