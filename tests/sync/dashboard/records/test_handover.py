"""One shift hands over to the next."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.dashboard.incidents import incidents
from sync.dashboard.schema import handovers
from tests.sync.dashboard.conftest import Hospital, token_of

SCRIPT = "<script>alert(1)</script> the pharmacy's hinge squeaks"


def test_a_hand_over_keeps_what_was_open_and_somebody_else_takes_it(hospital: Hospital) -> None:
    incidents.gather(hospital.store, hospital.now_ms())
    with hospital.client("desk") as desk, hospital.client("admin") as admin:
        page = desk.get("/handover").text
        assert "open incidents" in page
        assert desk.post("/handover", data={"csrf": token_of(page), "text": SCRIPT}).status_code == 303
        shown = admin.get("/handover").text
        assert "&lt;script&gt;" in shown
        assert "<script>alert" not in shown
        with hospital.store.reading() as db:
            row = db.execute(sa.select(handovers)).one()
        assert '"incidents": [' in row.left_open
        mine = desk.post(f"/handover/{row.id}", data={"csrf": token_of(page)})
        assert mine.status_code == 409
        assert admin.post(f"/handover/{row.id}", data={"csrf": token_of(shown)}).status_code == 303
        assert admin.post(f"/handover/{row.id}", data={"csrf": token_of(shown)}).status_code == 409
        assert "taken over" in desk.get("/handover").text


@pytest.mark.parametrize("account", ["auditor", "wall"])
def test_a_person_who_does_not_work_on_incidents_hands_nothing_over(hospital: Hospital, account: str) -> None:
    with hospital.client(account) as client:
        assert client.get("/handover").status_code == 403
