"""A small hospital that is really signed, its page on a real port, and Debian's Chromium."""

from __future__ import annotations

import datetime as dt
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import uvicorn
from argon2 import PasswordHasher
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright
from starlette.testclient import TestClient

from bench.units.memory_log import simulated_event
from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.accounts.oidc import SingleSignOn
from sync.dashboard.accounts.passkeys import Passkeys
from sync.dashboard.accounts.rights import ROLES, Viewer
from sync.dashboard.accounts.sessions import Login, Sessions, hashed
from sync.dashboard.app import make_app
from sync.dashboard.demo.demo_data import DemoData
from sync.dashboard.demo.demo_events import DemoSize
from sync.dashboard.migrations import prepare
from sync.dashboard.settings import DashboardSettings
from sync.dashboard.site.names import NameBook
from sync.dashboard.web import Backend
from sync.event_form import read_event
from sync.events import Record, UnitId
from sync.keys import FileSigner
from sync.registry.database.schema import units
from sync.registry.database.store import Store
from tests.ports import free_port
from tests.waiting import wait_until as wait_until

PASSWORD = "a quiet place to sit down"
NAMES_KEY = b"n" * 32
MADE_MS = int(dt.datetime(2026, 11, 25, 15, 20, tzinfo=dt.UTC).timestamp() * 1000)
"""A Wednesday afternoon, whenever the tests run: how busy a door is depends on day and hour."""
IMPORTED_MS = time.monotonic_ns() // 1_000_000
SCOPED = "pharmacist"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""What a password costs is Argon2's matter; the tests need it to be checked, and soon."""


@dataclass
class Hospital:
    """A registry with three days behind it, in a file of its own."""

    folder: Path
    store: Store
    signer: FileSigner
    ahead_ms: int = 0
    data: DemoData | None = None
    sign_on: SingleSignOn | None = None
    settings: DashboardSettings = field(default_factory=lambda: DashboardSettings("http://127.0.0.1:8080"))

    def now_ms(self) -> int:
        return MADE_MS + time.monotonic_ns() // 1_000_000 - IMPORTED_MS + self.ahead_ms

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.store, CHEAP)

    def backend(self, settings: DashboardSettings | None = None) -> Backend:
        return Backend(
            self.store,
            settings or self.settings,
            self.accounts,
            Sessions(self.store),
            self.now_ms,
            Passkeys(self.store, settings or self.settings),
            NameBook(self.store, NAMES_KEY),
            self.signer,
            sign_on=self.sign_on,
        )

    def client(self, account: str | None = None) -> TestClient:
        """The page without a network; logged in when an account is named."""
        made = TestClient(
            make_app(self.backend()),
            base_url=self.settings.origin,
            follow_redirects=False,
            headers={"Origin": self.settings.origin},
            raise_server_exceptions=False,
        )
        if account is not None:
            answer = made.post("/login", data={"account": account, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
        return made


def in_session(hospital: Hospital, viewer: Viewer) -> Viewer:
    """The same account in a session of its own."""
    secret = Sessions(hospital.store).begin(Login(viewer.account, ()), hospital.now_ms())
    return replace(viewer, session=hashed(secret))


def token_of(html: str) -> str:
    """The token in a page's forms."""
    return html.partition('name="csrf" value="')[2].partition('"')[0]


def happens(hospital: Hospital, times: int, unit: str = "st-mary/icu-1") -> list[str]:
    """Events stored as a worker stores them; their keys."""
    dice, rows, now_ms = random.Random(times), [], hospital.now_ms()
    with hospital.store.transaction() as db:
        size = int(db.execute(sa.select(units.c.size).where(units.c.unit == unit)).scalar_one())
        for number in range(size + 1, size + 1 + times):
            record = Record(UnitId(unit), number, simulated_event(dice, b"k" * 32, now_ms, 0))
            body = record.to_bytes()
            rows.append((read_event(body), body, now_ms))
        hospital.store.add_events(db, rows)
        db.execute(units.update().where(units.c.unit == unit).values(size=size + times))
    return [f"{unit}#{record.sequence}" for record, _, _ in rows]


@pytest.fixture(scope="session")
def _made_hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    store = Store.open(f"sqlite:///{folder}/registry.db")
    prepare(store)
    hospital = Hospital(folder, store, FileSigner.load_or_create(folder / "commands.key"))
    data = DemoData(store, hospital.now_ms(), DemoSize(doors=12, days=3, per_day=14))
    data.make()
    data.name_people(NameBook(store, NAMES_KEY))
    for role in ROLES:
        token = hospital.accounts.invite(role, (), "console", hospital.now_ms())
        hospital.accounts.accept(token, role, PASSWORD, hospital.now_ms())
    token = hospital.accounts.invite("auditor", ["st-mary/pharmacy"], "console", hospital.now_ms())
    hospital.accounts.accept(token, SCOPED, PASSWORD, hospital.now_ms())
    store.close()
    return folder


@pytest.fixture
def hospital(_made_hospital: Path, tmp_path: Path) -> Iterator[Hospital]:
    """A copy that a test may spoil."""
    for file in _made_hospital.iterdir():
        shutil.copy(file, tmp_path)
    store = Store.open(f"sqlite:///{tmp_path}/registry.db")
    yield Hospital(tmp_path, store, FileSigner.load_or_create(tmp_path / "commands.key"))
    store.close()


@dataclass
class Served:
    """The page on a port of this machine, and a browser to open it with."""

    hospital: Hospital
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    beat_s: Callable[[float], None] = lambda _: None
    """How often streams ask whether their sessions still hold, from the next one on."""

    @property
    def origin(self) -> str:
        return self.hospital.settings.origin

    def visit(self, account: str | None = None, **options: object) -> Page:
        """A new window, logged in as `account`. What its console complains about is kept."""
        context = self.browser.new_context(base_url=self.origin, **options)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        self.contexts.append(context)
        page = context.new_page()
        page.goto = partial(_opened, page.goto)  # type: ignore[method-assign]
        page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda err: self.complaints.append(str(err)))
        if account is not None:
            page.goto("/login")
            page.fill("input[name=account]", account)
            page.fill("input[name=password]", PASSWORD)
            page.click("button.primary")
            page.wait_for_url(lambda url: "/login" not in url)
        return page


def _opened(goto: Callable[..., object], address: str) -> object:
    """Go there, also when the page before loads itself again at that very moment, as live pages do."""
    try:
        return goto(address)
    except Error as err:
        if "ERR_ABORTED" not in str(err):
            raise
        return goto(address)


@pytest.fixture(scope="module")  # while it lives, this thread has a running event loop: not beyond its file
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "the tests need Debian's chromium: scripts/setup --test installs it"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def served(hospital: Hospital, browser: Browser) -> Iterator[Served]:
    port = free_port()
    # A passkey belongs to a name, never to an address of numbers.
    hospital.settings = DashboardSettings(f"http://localhost:{port}", organisation="St Mary's")
    app = make_app(hospital.backend())
    config = uvicorn.Config(
        app,
        port=port,
        log_level="error",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    place = Served(hospital, browser)
    place.beat_s = partial(setattr, app.state.feed, "_beat_s")
    yield place
    for context in place.contexts:
        context.close()
    server.should_exit = True
    thread.join()
