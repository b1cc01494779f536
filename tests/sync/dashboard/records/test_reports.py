"""Yesterday's numbers by mail, once, by whichever worker is first."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import threading
from dataclasses import dataclass, field, replace

import pytest
from starlette.testclient import TestClient

from sync.dashboard.app import make_app
from sync.dashboard.incidents import incidents
from sync.dashboard.records.reports import AGAIN_MS, Reports
from sync.errors import SyncError
from sync.registry.database.store import StoreError
from sync.registry.sinks import Email
from tests.sync.dashboard.conftest import Hospital
from tests.sync.mail_server import MailServer
from tests.waiting import wait_until

DAY_MS = 86_400_000


def morning_ms(hospital: Hospital, hour: int) -> int:
    day = dt.datetime.fromtimestamp(hospital.now_ms() / 1000, dt.UTC).replace(minute=0, second=0)
    return int(day.replace(hour=hour).timestamp() * 1000)


def daily_reports(hospital: Hospital, server: MailServer) -> Reports:
    mail = Email(
        "m", "127.0.0.1", server.port, "doors@st-mary.example", ("desk@st-mary.example",), starttls=False
    )
    return Reports(hospital.store, hospital.settings, [mail])


def test_a_report_goes_out_once_after_six_and_names_nobody(hospital: Hospital) -> None:
    incidents.gather(hospital.store, hospital.now_ms())
    with MailServer() as server:
        one, other = daily_reports(hospital, server), daily_reports(hospital, server)
        assert not one.step(morning_ms(hospital, 5))
        assert one.step(morning_ms(hospital, 6))
        assert not other.step(morning_ms(hospital, 6))
        assert not one.step(morning_ms(hospital, 23))
        assert one.step(morning_ms(hospital, 7) + DAY_MS)
    assert len(server.taken) == 2
    body = email.message_from_string(server.taken[0], policy=email.policy.default).get_content()
    for told in (
        "Let in: ",
        "Open incidents: ",
        "A unit is silent",
        "The day waits for its review.",
        "/review?day=",
    ):
        assert told in body
    assert "Let in: 0." not in body


def test_a_mail_server_that_is_down_gets_the_report_later(hospital: Hospital) -> None:
    at_ms = morning_ms(hospital, 6)
    with MailServer(mood=550) as server:
        reports = daily_reports(hospital, server)
        assert not reports.step(at_ms)
        server.mood = 250
        assert not reports.step(at_ms + AGAIN_MS - 1)
        assert reports.step(at_ms + AGAIN_MS)
    assert len(server.taken) == 1


@dataclass
class Failing:
    """A report that cannot be made."""

    err: Exception
    asked: threading.Event = field(default_factory=threading.Event)

    def step(self, now_ms: int) -> bool:
        self.asked.set()
        raise self.err


@pytest.mark.parametrize(("err", "told"), [(SyncError("a key is damaged"), 1), (StoreError("gone"), 0)])
def test_what_keeps_a_report_from_being_made_is_told_unless_the_database_is_gone(
    hospital: Hospital, caplog: pytest.LogCaptureFixture, err: Exception, told: int
) -> None:
    failing = Failing(err)
    with TestClient(make_app(replace(hospital.backend(), reports=failing))):
        assert failing.asked.wait(180)
        if told:
            wait_until(lambda: "it is tried again" in caplog.text)
    assert caplog.text.count("it is tried again") == told
