"""Commands through a real broker to a real unit that somebody keeps killing."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.events import Record, unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.registry import commands
from sync.registry.database.store import Store
from sync.registry.reports import export
from sync.service.command_line import wall_ms
from tests.e2e.sync_world import Process
from tests.e2e.test_sync_simulate import OSTIARY, registry
from tests.sync.services import NOW
from tests.waiting import PATIENCE_S

__all__ = ["registry"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow]
UNIT = "site-1/unit-1"
FINAL = {"done", "refused", "failed", "interrupted"}


class Site:
    """One unit's sync process, the registry's commands, and their tables."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.database = ["--database", f"sqlite:///{folder}/r.db"]
        self.store = Store.open(f"sqlite:///{folder}/r.db")
        self.desk_key = folder / "commands.key"
        audit_key = folder / "audit.key"
        for path in (self.desk_key, audit_key):
            path.with_suffix(".pem").write_bytes(FileSigner.load_or_create(path).public_pem())
        self.ostiary("registry", "register", UNIT, "--key", str(folder / "audit.pem"), *self.database)
        files = Authority.open(folder / "pki", NOW).issue(UNIT, NOW)
        command = [*OSTIARY, "sync", "--unit", UNIT, "--outbox", str(folder / "outbox.db")]
        command += ["--broker", f"127.0.0.1:{port}", "--ca", str(files.ca), "--audit-key", str(audit_key)]
        command += ["--cert", str(files.certificate), "--key", str(files.key)]
        command += ["--registry-key", str(folder / "receipts.pem")]
        command += ["--command-key", str(folder / "commands.pem"), "--metrics", str(folder / "unit.prom")]
        self.sync = Process("agent", command, folder / "log")

    def ostiary(self, *arguments: str) -> str:
        return subprocess.check_output([*OSTIARY, *arguments], text=True)

    def order(self, action: str, *more: str, key: Path | None = None) -> None:
        signing = ["--signing-key", str(key or self.desk_key), "--account", "m.desk"]
        self.ostiary("registry", "command", UNIT, action, *more, *signing, *self.database)

    def give(self, action: str) -> None:
        """The same without a process of its own."""
        signer, now = FileSigner.load_or_create(self.desk_key), wall_ms()
        commands.issue(
            self.store, signer, unit_id(UNIT), action, {}, account="m.desk", now_ms=now, life_ms=600_000
        )

    def states(self) -> dict[int, str]:
        return {row["counter"]: row["state"] for row in commands.listed(self.store, wall_ms())}

    def answered(self, count: int) -> dict[int, str]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            states = self.states()
            if sum(state in FINAL for state in states.values()) == count:
                return states
            assert time.monotonic() < deadline, states
            time.sleep(0.3)

    def events(self, count: int) -> list[tuple[str, int | None]]:
        deadline = time.monotonic() + 180
        while export.count(self.store) < count and time.monotonic() < deadline:
            time.sleep(0.2)
        bodies = export.bundle(self.store, unit_id(UNIT)).events
        return [(made.kind, made.count) for made in (Record.from_bytes(body).event for body in bodies)]


@pytest.fixture
def site(registry: tuple[Path, int]) -> Iterator[Site]:
    made = Site(*registry)
    made.sync.start()
    yield made
    made.sync.kill()
    made.store.close()


def test_a_command_is_obeyed_answered_shown_and_audited_and_a_strangers_is_not(site: Site) -> None:
    stranger = site.folder / "stranger.key"
    FileSigner.load_or_create(stranger)
    site.order("report_health", "--life", "2", key=stranger)
    site.order("report_health")
    site.order("resend", "--set", "after=99")
    assert site.answered(2) == {1: "expired", 2: "done", 3: "failed"}
    assert site.events(2) == [("COMMAND_APPLIED", 2), ("COMMAND_REFUSED", 3)]
    assert "ostiary_agent_connected" in (site.folder / "unit.prom").read_text()


def test_a_unit_that_is_killed_at_any_moment_answers_every_command_once(site: Site) -> None:
    dice, count = random.Random(3), 5
    for _ in range(count):
        site.give("report_health")
    for _ in range(6):
        time.sleep(dice.uniform(0.3, 1.2))
        site.sync.kill()
        site.sync.start()
    states = site.answered(count)
    assert set(states.values()) <= {"done", "interrupted"}
    told = [number for kind, number in site.events(count) if kind.startswith("COMMAND_")]
    assert sorted(set(told)) == list(range(1, count + 1)), "each left its event"
