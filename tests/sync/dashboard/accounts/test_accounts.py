"""Who gets in, and who waits."""

from __future__ import annotations

import pytest

from sync.dashboard.accounts.accounts import LINK_LIFE_MS
from sync.dashboard.errors import DashboardError
from tests.sync.dashboard.conftest import PASSWORD, Hospital

NOW = 1_900_000_000_000


def test_a_link_makes_one_account_and_no_second(hospital: Hospital) -> None:
    accounts = hospital.accounts
    token = accounts.invite("desk", ["st-mary"], "admin", NOW)
    accounts.accept(token, "m.desk", PASSWORD, NOW)
    found = accounts.check("m.desk", PASSWORD, "10.0.0.1", NOW)
    assert found is not None
    (listed,) = (account for account in accounts.listed() if account.name == found.account)
    assert (listed.role, listed.scopes) == ("desk", ("st-mary",))
    with pytest.raises(DashboardError, match="used or has expired"):
        accounts.accept(token, "somebody", PASSWORD, NOW)


def test_a_link_is_good_for_a_day(hospital: Hospital) -> None:
    token = hospital.accounts.invite("desk", [], "admin", NOW)
    with pytest.raises(DashboardError, match="expired"):
        hospital.accounts.accept(token, "late", PASSWORD, NOW + LINK_LIFE_MS)


def test_a_link_without_a_name_cannot_take_an_account_over(hospital: Hospital) -> None:
    token = hospital.accounts.invite("desk", [], "admin", NOW)
    with pytest.raises(DashboardError, match="taken"):
        hospital.accounts.accept(token, "admin", "another password here", NOW)
    assert hospital.accounts.check("admin", PASSWORD, "10.0.0.1", NOW) is not None


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "sentry is my name", "x" * 300])
def test_a_password_that_is_easy_to_guess_is_refused(hospital: Hospital, password: str) -> None:
    token = hospital.accounts.invite("desk", [], "admin", NOW)
    with pytest.raises(DashboardError, match="password"):
        hospital.accounts.accept(token, "sentry", password, NOW)


def test_after_five_failures_everybody_at_that_address_waits(hospital: Hospital) -> None:
    accounts = hospital.accounts
    for _ in range(5):
        assert accounts.check("admin", "wrong", "10.0.0.9", NOW) is None
    with pytest.raises(DashboardError, match="Try again in 30 seconds"):
        accounts.check("admin", PASSWORD, "10.0.0.9", NOW)
    # Somebody who guesses keeps nobody else out.
    assert accounts.check("admin", PASSWORD, "10.0.0.1", NOW) is not None


def test_an_address_that_tries_many_names_waits_too(hospital: Hospital) -> None:
    for number in range(100):
        assert hospital.accounts.check(f"name-{number}", "wrong", "10.0.0.66", NOW) is None
    with pytest.raises(DashboardError, match="Too many failures"):
        hospital.accounts.check("another", "wrong", "10.0.0.66", NOW)


def test_a_name_that_does_not_exist_is_checked_like_one_that_does(hospital: Hospital) -> None:
    for name in ("nobody", "admin"):
        for _ in range(5):
            assert hospital.accounts.check(name, "wrong", "10.0.0.7", NOW) is None
        with pytest.raises(DashboardError, match="Too many failures"):
            hospital.accounts.check(name, "wrong", "10.0.0.7", NOW)


def test_the_last_administrator_cannot_be_disabled(hospital: Hospital) -> None:
    with pytest.raises(DashboardError, match="last administrator"):
        hospital.accounts.disable("admin", "admin", NOW)
    hospital.accounts.disable("desk", "admin", NOW)
    assert hospital.accounts.check("desk", PASSWORD, "10.0.0.1", NOW) is None
