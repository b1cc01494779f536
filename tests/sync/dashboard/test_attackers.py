"""The page of attacks shows which attempts seem to be of one tool, and whether units are warned."""

from __future__ import annotations

import sqlalchemy as sa

from sync.registry.campaigns import known
from sync.registry.database.campaign_tables import campaigns
from sync.threats.prints import MODEL, VALUES
from tests.sync.dashboard.conftest import Hospital


def test_attackers_are_listed_with_what_became_of_them(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        assert "Attackers" not in client.get("/attacks").text
        row = {"model": MODEL, "centre": bytes([1]) * VALUES, "reporters": 4, "likeness": 630, "origin": ""}
        row |= {"first_ms": hospital.now_ms(), "last_ms": hospital.now_ms(), "state": "known"}
        with hospital.store.transaction() as db:
            db.execute(sa.insert(campaigns).values(**row, times=7))
            db.execute(sa.insert(campaigns).values(**row, times=2))
        page = client.get("/attacks").text
        assert "<strong>7 attempts</strong> at 4 units" in page
        assert "units are warned" in page
        assert "<strong>2 attempts</strong> at 4 units" not in page
        known.watch(hospital.store, 2, "seen at the east door", 3, "desk", hospital.now_ms())
        page = client.get("/attacks").text
        assert "<strong>2 attempts</strong> at 4 units" in page
        assert "on the watch list" in page
