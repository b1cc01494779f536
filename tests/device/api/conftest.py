"""The facade on the real models, with a clock that tests move."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from device.api.app import make_app
from device.api.server import service_with
from device.api.service import Service
from device.api.tokens import SCOPES, Token, TokenBook, issue
from device.clock import Now
from device.evidence.judge import Judge
from device.secure_store import Store, open_store
from device.settings import Settings
from device.state_folder import StateFolder
from tests.speech import Reading


class MovedClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
        self.monotonic_s = 1_000.0

    def __call__(self) -> Now:
        return Now(self.wall, self.monotonic_s)

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.monotonic_s += seconds


@dataclass
class Facade:
    """A running facade and a caller with every scope."""

    client: TestClient
    service: Service
    clock: MovedClock
    state: Path
    store: Store
    """The unit's store, opened beside the facade's."""
    headers: dict[str, str] = field(default_factory=dict)

    def token(self, *scopes: str, client: str = "pharmacy", life_s: int = 900, certificate: str = "") -> str:
        now_s = int(self.clock.wall.timestamp())
        token = Token(client, frozenset(scopes or SCOPES), now_s, now_s + life_s, certificate)
        with self.tokens() as book:
            book.add(token)
        return issue(token, self.store.mac)

    def tokens(self) -> TokenBook:
        """The book of tokens, as another process opens it."""
        return TokenBook(StateFolder(self.state).api_tokens)

    def change(self, file: Path, *statements: str) -> None:
        """Change a database of the facade behind its back."""
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as beside:
            for statement in statements:
                beside.execute(statement)

    def bearer(self, *scopes: str, client: str = "pharmacy") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*scopes, client=client)}"}

    def post(self, path: str, body: dict[str, Any], client: str = "pharmacy") -> httpx.Response:
        return self.client.post(path, json=body, headers=self.bearer(client=client))

    def get(self, path: str, client: str = "pharmacy") -> httpx.Response:
        return self.client.get(path, headers=self.bearer(client=client))


OpenFacade = Callable[..., AbstractContextManager[Facade]]


@pytest.fixture
def open_facade(judge: Judge, tmp_path: Path) -> OpenFacade:
    """`open_facade(max_waiting=1, ...)` is a facade with these [api] settings, in this test's folder."""

    @contextlib.contextmanager
    def opened(**changed: Any) -> Iterator[Facade]:
        settings = Settings()
        settings = replace(settings, api=replace(settings.api, **changed))
        clock, state = MovedClock(), tmp_path / "state"
        with (
            service_with(judge, settings, state, clock) as service,
            TestClient(make_app(service)) as client,
            open_store(state, settings.store) as store,
        ):
            yield Facade(client, service, clock, state, store)

    return opened


@pytest.fixture
def facade(open_facade: OpenFacade) -> Iterator[Facade]:
    with open_facade() as opened:
        yield opened


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def enrolment(reader: list[Reading]) -> list[str]:
    """Three sentences of one person."""
    return [encoded(reader[n].path) for n in (0, 2, 3)]


def slug(response: httpx.Response) -> str:
    """Which problem a response is; fails when it is none, or not in the one shape."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert {"type", "title", "status", "detail", "instance"} <= set(document)
    return str(document["type"]).removeprefix("urn:ostiary:problem:")
