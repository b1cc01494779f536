"""A unit asks its site whether it is known, until the site can say."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from device.uplink.network import Network, Place
from device.uplink.renewal import AGAIN_AFTER_S, LOOK_EVERY_S, Renewal
from sync.errors import SyncError

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PLACE, KNOWN_AGAIN = (cast(Place, SimpleNamespace(due=lambda now: False)) for _ in range(2))


class Site:
    """What the claim service says: nobody answers, or the place of a unit that it knows again."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = False

    def back(self, _: Place) -> Place | None:
        self.asked += 1
        if not self.answers:
            raise SyncError("the claim service does not answer")
        return KNOWN_AGAIN


def test_a_site_that_does_not_answer_is_asked_again_after_a_minute_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    renewal = Renewal(PLACE, renew=lambda place: place, back=site.back)
    with caplog.at_level(logging.WARNING):
        for minute in range(3):
            at = minute * AGAIN_AFTER_S
            assert not renewal.step(NOW, at, connected=True)
            assert not renewal.step(NOW, at + AGAIN_AFTER_S - 0.1, connected=True)
    assert (site.asked, len(caplog.records)) == (3, 1)
    site.answers = True
    assert renewal.step(NOW, 3 * AGAIN_AFTER_S, connected=True)
    assert renewal.place is KNOWN_AGAIN
    assert not renewal.step(NOW, 3 * AGAIN_AFTER_S + LOOK_EVERY_S - 0.1, connected=True)
    assert site.asked == 4, "once it has answered, an hour lies between"


def test_a_certificate_that_the_disk_does_not_take_is_asked_for_again_and_ends_no_uplink(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "network").write_text("a file in place of the folder")
    kept = Place("st-mary/icu-2", "pharmacy", "b:1", "c:2", "", "", "", "", "00")

    def renew(place: Place) -> Place:
        Network(tmp_path).save(kept)
        return place

    due = cast(Place, SimpleNamespace(due=lambda now: True, days_left=lambda now: 3.0))
    assert not Renewal(due, renew).step(NOW, 0.0, connected=True)
    assert "place.json cannot be written" in caplog.text


def test_a_broker_that_comes_back_is_a_reason_to_ask_at_once() -> None:
    site = Site()
    site.answers = True
    renewal = Renewal(PLACE, renew=lambda place: place, back=site.back)
    renewal.step(NOW, 0.0, connected=True)
    renewal.step(NOW, 1.0, connected=False)
    renewal.step(NOW, 2.0, connected=True)
    assert site.asked == 2
