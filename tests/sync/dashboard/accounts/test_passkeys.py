"""Passkeys, with Chromium's virtual authenticator."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect
from webauthn.helpers import bytes_to_base64url

from sync.dashboard.accounts import journal
from tests.sync.dashboard.conftest import PASSWORD, Hospital, Served, token_of

pytestmark = pytest.mark.e2e


def _authenticator(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_a_passkey_logs_in_and_the_password_no_longer_does(served: Served) -> None:
    page = served.visit("desk")
    _authenticator(page)
    page.goto("/account")
    page.click("text=Add a passkey")
    expect(page.locator("main")).to_contain_text("logs in with nothing else")
    page.click("text=Log out")
    page.wait_for_url(re.compile("/login"))
    page.fill("input[name=account]", "desk")
    page.fill("input[name=password]", PASSWORD)
    page.click("button.primary")
    expect(page.locator("[role=alert]").first).to_contain_text("logs in with its passkey")
    page.goto("/login?next=/lockdown")
    page.click("text=Log in with a passkey")
    page.wait_for_url(re.compile("/lockdown"))
    assert "passkey added" in {entry.action for entry in journal.entries(served.hospital.store, limit=20)}
    assert all("403" in line for line in served.complaints)  # of the refused password


def test_an_administrators_link_ends_the_passkeys(served: Served) -> None:
    page = served.visit("desk")
    _authenticator(page)
    page.goto("/account")
    page.click("text=Add a passkey")
    expect(page.locator("main")).to_contain_text("logs in with nothing else")
    accounts, now_ms = served.hospital.accounts, served.hospital.now_ms()
    accounts.accept(accounts.invite("desk", (), "admin", now_ms, account="desk"), "desk", PASSWORD, now_ms)
    page.goto("/login")
    page.click("text=Log in with a passkey")
    expect(page.locator("#passkey-problem")).to_contain_text("not known here")
    assert served.hospital.backend().passkeys.count("desk") == 0


@pytest.mark.parametrize(
    "credential", ["", "{}", "[]", '"x"', '{"response": {"clientDataJSON": "e30"}}', "{" * 5000]
)
def test_what_is_no_passkeys_answer_is_refused(hospital: Hospital, credential: str) -> None:
    with hospital.client() as client:
        answer = client.post("/login/passkey/finish", data={"credential": credential})
        assert answer.status_code in (400, 401)
        assert "message" in answer.json()


def test_a_challenge_is_answered_once_and_for_its_purpose(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        token = token_of(client.get("/account").text)
        challenge = client.post("/account/passkey/begin", data={"csrf": token}).json()["challenge"]
        told = json.dumps(
            {"type": "webauthn.get", "challenge": challenge, "origin": hospital.settings.origin}
        )
        credential = json.dumps(
            {"id": "x", "response": {"clientDataJSON": bytes_to_base64url(told.encode())}}
        )
        answer = client.post("/login/passkey/finish", data={"credential": credential})
        assert answer.status_code == 400
        assert "Try again" in answer.json()["message"]
