"""Single sign-on against a provider that really answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.accounts.oidc import Group, Provider, SingleSignOn, read_provider
from sync.dashboard.app import make_app
from sync.dashboard.errors import DashboardError
from sync.dashboard.schema import accounts, sessions
from tests.sync.dashboard.conftest import PASSWORD, Hospital, token_of
from tests.sync.dashboard.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider
from tests.sync.services import free_port

NURSE = {"sub": "4711", "preferred_username": "Ada.Rossi@st-mary.example", "groups": ["staff", "door-desk"]}


@pytest.fixture
def provider(hospital: Hospital) -> Iterator[IdentityProvider]:
    with identity_provider() as made:
        made.now_s = lambda: hospital.now_ms() / 1000.0
        made.user = dict(NURSE)
        yield made


@pytest.fixture
def browser(hospital: Hospital, provider: IdentityProvider) -> Iterator[TestClient]:
    hospital.sign_on = SingleSignOn(
        hospital.store, hospital.settings, hospital.accounts, _described(provider)
    )
    with TestClient(
        make_app(hospital.backend()),
        base_url=hospital.settings.origin,
        follow_redirects=False,
        headers={"Origin": hospital.settings.origin},
        raise_server_exceptions=False,
    ) as client:
        yield client


def _described(provider: IdentityProvider) -> Provider:
    groups = (Group("door-admins", "admin"), Group("door-desk", "desk", ("st-mary/icu",)))
    return Provider(provider.issuer, CLIENT, groups, SECRET, "St Mary's account")


def _log_in(browser: TestClient, wanted: str = "/doors") -> httpx2.Response:
    began = browser.get("/login/oidc", params={"next": wanted})
    assert began.status_code == 303
    back = httpx2.get(began.headers["location"]).headers["location"]
    return browser.get(back)


def test_somebody_in_a_group_gets_its_role_and_tags(browser: TestClient, hospital: Hospital) -> None:
    assert "St Mary&#39;s account" in browser.get("/login").text
    answer = _log_in(browser, "/events?zone=icu")
    assert answer.status_code == 200
    assert 'content="0; url=/events?zone=icu"' in answer.text
    page = browser.get("/doors").text
    assert "ada.rossi" in page
    assert "st-mary/icu" in page
    assert "Pharmacy, main door" not in page
    assert browser.get("/accounts").status_code == 403


def test_the_session_cookie_is_strict_and_the_login_cookie_goes(browser: TestClient) -> None:
    cookies = _log_in(browser).headers.get_list("set-cookie")
    assert any(c.startswith("ostiary=") and "SameSite=strict" in c and "HttpOnly" in c for c in cookies)
    assert any(c.startswith("ostiary-oidc=") and "Max-Age=0" in c for c in cookies)


def test_an_answer_to_a_login_of_another_browser_is_refused(browser: TestClient) -> None:
    began = browser.get("/login/oidc")
    back = httpx2.get(began.headers["location"]).headers["location"]
    browser.cookies.clear()
    assert browser.get(back).status_code == 400
    assert "ostiary" not in browser.cookies


def test_an_answer_is_good_once_and_not_for_ever(browser: TestClient, hospital: Hospital) -> None:
    began = browser.get("/login/oidc")
    state = browser.cookies["ostiary-oidc"]
    back = httpx2.get(began.headers["location"]).headers["location"]
    assert browser.get(back).status_code == 200
    browser.cookies.set("ostiary-oidc", state)
    assert browser.get(back).status_code == 400
    began = browser.get("/login/oidc")
    back = httpx2.get(began.headers["location"]).headers["location"]
    hospital.ahead_ms += 11 * 60_000
    assert browser.get(back).status_code == 400


@pytest.mark.parametrize(
    "spoilt",
    [
        {"aud": "another"},
        {"aud": ["ostiary", "another"]},
        {"iss": "http://localhost:1"},
        {"nonce": "x"},
        {"exp": 1},
        {"azp": "another"},
        {"sub": ""},
    ],
    ids=lambda spoilt: next(iter(spoilt)),
)
def test_a_token_that_is_not_for_us_is_refused(
    browser: TestClient, provider: IdentityProvider, spoilt: dict[str, object]
) -> None:
    provider.spoilt = spoilt
    assert _log_in(browser).status_code == 403
    assert "ostiary" not in browser.cookies


def test_a_token_by_another_key_is_refused_and_a_new_key_is_fetched(
    browser: TestClient, provider: IdentityProvider
) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "one"})
    assert _log_in(browser).status_code == 403
    provider.key = provider.signs_with
    assert _log_in(browser).status_code == 200


def test_a_wrong_client_secret_logs_nobody_in(browser: TestClient, hospital: Hospital) -> None:
    began = browser.get("/login/oidc")
    back = httpx2.get(began.headers["location"]).headers["location"]
    assert browser.get(back.replace("code=", "code=x")).status_code == 502


def test_a_person_who_leaves_the_group_leaves_the_page(
    browser: TestClient, provider: IdentityProvider, hospital: Hospital
) -> None:
    assert _log_in(browser).status_code == 200
    provider.user["groups"] = ["staff"]
    assert _log_in(browser).status_code == 403
    with hospital.store.reading() as db:
        mine = sessions.c.account == "ada.rossi"
        assert db.execute(sa.select(sessions).where(mine)).first() is None


def test_a_role_follows_the_group_at_the_next_login(
    browser: TestClient, provider: IdentityProvider, hospital: Hospital
) -> None:
    _log_in(browser)
    provider.user["groups"] = ["door-desk", "door-admins"]
    _log_in(browser)
    assert browser.get("/accounts").status_code == 200
    with hospital.store.reading() as db:
        row = db.execute(sa.select(accounts).where(accounts.c.name == "ada.rossi")).one()
    assert (row.role, row.scopes, row.password) == ("admin", "[]", None)


def test_a_name_that_is_taken_here_is_not_taken_over(browser: TestClient, provider: IdentityProvider) -> None:
    provider.user["preferred_username"] = "admin"
    assert _log_in(browser).status_code == 403


def test_an_account_disabled_here_stays_out(
    browser: TestClient, hospital: Hospital, provider: IdentityProvider
) -> None:
    _log_in(browser)
    hospital.accounts.disable("ada.rossi", "admin", hospital.now_ms())
    assert _log_in(browser).status_code == 403


def test_an_account_of_the_provider_gets_no_second_way_in(browser: TestClient, hospital: Hospital) -> None:
    _log_in(browser)
    token = token_of(browser.get("/account").text)
    form = {"csrf": token, "old": PASSWORD, "password": PASSWORD, "again": PASSWORD}
    assert browser.post("/account/password", data=form).status_code == 403
    assert browser.post("/account/passkey/begin", data={"csrf": token}).status_code == 403
    with pytest.raises(DashboardError):
        Accounts(hospital.store).invite("admin", (), "admin", hospital.now_ms(), account="ada.rossi")
    answer = browser.post("/login", data={"account": "ada.rossi", "password": ""})
    assert answer.status_code == 401


def test_a_page_without_a_provider_has_no_such_login(hospital: Hospital) -> None:
    with hospital.client() as client:
        assert client.get("/login/oidc").status_code == 404
        assert "/login/oidc" not in client.get("/login").text


def test_a_provider_that_does_not_answer_leaves_passwords(hospital: Hospital) -> None:
    gone = Provider("http://localhost:1", CLIENT, (Group("x", "desk"),))
    hospital.sign_on = SingleSignOn(hospital.store, hospital.settings, hospital.accounts, gone)
    with hospital.client() as client:
        assert client.get("/login/oidc").status_code == 502
        assert client.post("/login", data={"account": "desk", "password": PASSWORD}).status_code == 303


def test_every_mistake_in_the_providers_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "oidc.toml"
    path.write_text('issuer = "http://login.example"\ncolour = "red"\n[[group]]\nname = "x"\nrole = "king"\n')
    with pytest.raises(DashboardError) as told:
        read_provider(path)
    for part in ("colour", "client_id is missing", "group 1", "no [[group]]", "https"):
        assert part in str(told.value)
    (tmp_path / "secret").write_text("shh\n")
    path.write_text(
        'issuer = "https://login.example"\nclient_id = "o"\nclient_secret_file = "secret"\n'
        '[[group]]\nname = "x"\nrole = "desk"\ntags = ["st-mary"]\n'
    )
    made = read_provider(path)
    assert made.groups == (Group("x", "desk", ("st-mary",)),)
    assert made.client_secret == "shh"
    assert "shh" not in repr(made)


def test_a_proxy_of_the_environment_is_not_asked_and_a_configured_one_is(
    hospital: Hospital, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Containers are given HTTP_PROXY for what they download; the client's secret would pass there."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")  # nobody is there
    described = _described(provider)
    sign_on = SingleSignOn(hospital.store, hospital.settings, hospital.accounts, described)
    assert sign_on.begin("/doors", hospital.now_ms())[0].startswith(provider.issuer)
    configured = replace(described, proxy=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DashboardError, match="does not answer"):
        SingleSignOn(hospital.store, hospital.settings, hospital.accounts, configured).begin(
            "/doors", hospital.now_ms()
        )
    file = tmp_path / "oidc.toml"
    file.write_text(
        'issuer = "https://login.example"\nclient_id = "a"\nproxy = "proxy.example:3128"\n'
        '[[group]]\nname = "g"\nrole = "desk"\n'
    )
    with pytest.raises(DashboardError, match="proxy is written http://HOST:PORT"):
        read_provider(file)
