"""What changes an account while somebody logs in, or while a page of theirs is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.passkeys import NONE_HELD
from sync.dashboard.accounts.rights import Right, Viewer
from sync.dashboard.accounts.sessions import Login, Sessions, hashed
from sync.dashboard.accounts.tokens import Tokens
from sync.dashboard.errors import RefusedError
from sync.dashboard.migrations import prepare
from sync.dashboard.schema import accounts, links, passkeys, sessions, tokens
from sync.keys import FileSigner
from sync.registry.database.store import Store
from tests.sync.between import Other
from tests.sync.dashboard.conftest import PASSWORD, Hospital, token_of
from tests.sync.services import postgres

FRESH = "another quiet place to sit"
Act = Callable[[Hospital], object]


def logged_in(hospital: Hospital, account: str = "desk") -> Login:
    found = hospital.accounts.check(account, PASSWORD, "10.0.0.1", hospital.now_ms())
    assert found is not None
    return found


def begun(hospital: Hospital, account: str = "desk") -> str:
    """The hash of a session's secret."""
    return hashed(Sessions(hospital.store).begin(logged_in(hospital, account), hospital.now_ms()))


def change_password(hospital: Hospital) -> None:
    session = begun(hospital)
    hospital.accounts.change_password(logged_in(hospital), FRESH, session, hospital.now_ms())


def disable(hospital: Hospital) -> None:
    hospital.accounts.disable("desk", "admin", hospital.now_ms())


def give_anew(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    token = hospital.accounts.invite("auditor", (), "admin", now_ms, account="desk")
    hospital.accounts.accept(token, "desk", FRESH, now_ms)


def add_passkey(hospital: Hospital) -> None:
    with hospital.store.transaction() as db:
        row = {"credential": "AA", "account": "desk", "public_key": b"", "sign_count": 0, "added_ms": 0}
        db.execute(sa.insert(passkeys).values(**row))


CHANGES = pytest.mark.parametrize("change", [change_password, disable, give_anew])


def of(store: Store, table: sa.Table, account: str = "desk") -> int:
    with store.reading() as db:
        count = sa.select(sa.func.count()).select_from(table)
        return int(db.execute(count.where(table.c.account == account)).scalar_one())


@CHANGES
def test_a_login_with_the_old_password_begins_no_session_after_a_change(
    hospital: Hospital, change: Act
) -> None:
    login = logged_in(hospital)
    change(hospital)
    before = of(hospital.store, sessions)
    with pytest.raises(RefusedError, match="changed a moment ago"):
        Sessions(hospital.store).begin(login, hospital.now_ms())
    assert of(hospital.store, sessions) == before


@pytest.mark.parametrize("change", [change_password, disable, give_anew, add_passkey])
def test_the_page_says_so_and_gives_no_cookie(hospital: Hospital, change: Act) -> None:
    left = [change]

    def looked(*told: object) -> None:
        if left and "FROM dashboard_passkeys" in str(told[2]):  # the page's own look, and then the change
            left.pop()(hospital)

    sa.event.listen(hospital.store.engine, "after_cursor_execute", looked)
    with hospital.client() as client:
        answer = client.post("/login", data={"account": "desk", "password": PASSWORD})
    assert not left
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_password_is_no_way_in_once_there_is_a_passkey(hospital: Hospital) -> None:
    found = logged_in(hospital)
    add_passkey(hospital)
    with pytest.raises(RefusedError):
        Sessions(hospital.store).begin(replace(found, still=(*found.still, NONE_HELD)), hospital.now_ms())


def test_a_new_role_at_the_provider_ends_a_login_that_had_the_old_one(hospital: Hospital) -> None:
    accounts_, now_ms = hospital.accounts, hospital.now_ms()
    first = accounts_.enter("idp 7", "ada", "admin", (), now_ms)
    accounts_.enter("idp 7", "ada", "desk", (), now_ms)
    with pytest.raises(RefusedError):
        Sessions(hospital.store).begin(first, now_ms)


def test_a_link_gives_no_password_to_an_account_that_came_by_single_sign_on_since(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    token = hospital.accounts.invite("admin", (), "admin", now_ms, account="ada")
    hospital.accounts.enter("idp 7", "ada", "desk", (), now_ms)
    with pytest.raises(RefusedError, match="single sign-on"):
        hospital.accounts.accept(token, "ada", PASSWORD, now_ms)
    with hospital.store.reading() as db:
        row = db.execute(sa.select(accounts).where(accounts.c.name == "ada")).one()
    assert (row.password, row.role) == (None, "desk")


def a_password(hospital: Hospital, session: str) -> None:
    hospital.accounts.change_password(logged_in(hospital), FRESH, session, hospital.now_ms())


def a_passkey(hospital: Hospital, session: str) -> None:
    hospital.backend().passkeys.add("desk", "{}", session, hospital.now_ms())


def no_passkey(hospital: Hospital, session: str) -> None:
    hospital.backend().passkeys.remove_all("desk", session, hospital.now_ms())


def a_link(hospital: Hospital, session: str) -> None:
    hospital.accounts.invite("admin", (), "desk", hospital.now_ms(), session=session)


def a_token(hospital: Hospital, session: str) -> None:
    viewer = Viewer("desk", "desk", (), session, "")
    Tokens(hospital.store).make("mine", [Right.DOORS], (), 1, viewer, hospital.now_ms())


@pytest.mark.parametrize("keep", [a_password, a_passkey, no_passkey, a_link, a_token])
def test_a_session_that_was_ended_leaves_nothing_behind_that_outlives_it(
    hospital: Hospital, keep: Callable[[Hospital, str], None]
) -> None:
    session = begun(hospital)
    with hospital.store.transaction() as db:
        db.execute(sa.delete(sessions).where(sessions.c.account == "desk"))
    with pytest.raises(RefusedError, match="Your session has ended"):
        keep(hospital, session)
    assert of(hospital.store, passkeys) == 0
    with hospital.store.reading() as db:
        for table in (links, tokens):
            left = sa.select(sa.func.count()).select_from(table)
            here = table.c.used_ms.is_(None) if table is links else sa.true()
            assert db.execute(left.where(here)).scalar_one() == 0


def test_a_page_that_changes_the_password_twice_at_once_changes_it_once(hospital: Hospital) -> None:
    session, old = begun(hospital), logged_in(hospital)
    hospital.accounts.change_password(old, FRESH, session, hospital.now_ms())
    with pytest.raises(RefusedError):
        hospital.accounts.change_password(old, PASSWORD + "!", session, hospital.now_ms())


def test_a_login_is_in_the_journal_with_its_session(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        assert token_of(client.get("/account").text)
    assert journal.entries(hospital.store, limit=3)[0].action == "login"


def test_on_postgresql_a_login_waits_for_the_change_that_is_under_way(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        now_ms = hospital.now_ms()
        hospital.accounts.accept(
            hospital.accounts.invite("desk", (), "test", now_ms), "desk", PASSWORD, now_ms
        )
        login, session = logged_in(hospital), begun(hospital)
        other = Other(store, lambda: Sessions(store).begin(login, now_ms))
        left = [other.begin]

        def looked(*told: object) -> None:
            if left and str(told[2]).startswith("DELETE FROM dashboard_sessions"):
                left.pop()()

        sa.event.listen(store.engine, "before_cursor_execute", looked)
        hospital.accounts.change_password(login, FRESH, session, now_ms)
        sa.event.remove(store.engine, "before_cursor_execute", looked)
        assert [type(err) for err in other.end()] == [RefusedError]
        assert of(store, sessions) == 1
        store.close()
