"""The results file: one owner, a ceiling, expiry, and nothing readable in it."""

from __future__ import annotations

import hmac
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from device.api.errors import ApiError, ProblemError
from device.api.results import PHRASE_HORIZON, Results, transaction


def mac(purpose: str, message: bytes) -> bytes:
    return hmac.digest(purpose.encode(), message, "sha256")


class Now:
    s = 1_000.0

    def __call__(self) -> float:
        return self.s


def opened(folder: Path, now: Now, most: int = 100) -> Results:
    return Results(folder / "results.db", mac, now_s=now, lifetime_s=60.0, most=most)


def test_two_facades_never_share_a_file(tmp_path: Path) -> None:
    with opened(tmp_path, Now()), pytest.raises(ApiError, match="another facade"):
        opened(tmp_path, Now())
    opened(tmp_path, Now()).close()


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(ApiError, match="cannot open results"):
        opened(tmp_path, Now())


def test_the_newest_results_stay_when_there_are_too_many(tmp_path: Path) -> None:
    now = Now()
    with opened(tmp_path, now, most=3) as results:
        for number in range(5):
            now.s += 1.0
            results.put(transaction(mac, "a", str(number)), {"n": number})
        results.purge()
        kept = [results.fetch(transaction(mac, "a", str(number)).key) for number in range(5)]
        assert kept == [None, None, {"n": 2}, {"n": 3}, {"n": 4}]


def test_an_expired_result_is_not_given_out_even_before_it_is_purged(tmp_path: Path) -> None:
    now = Now()
    with opened(tmp_path, now) as results:
        results.put(transaction(mac, "a", "1"), {"n": 1})
        now.s += 60.0
        with pytest.raises(ProblemError):
            results.fetch(transaction(mac, "a", "1").key)


def test_no_two_requests_share_a_fingerprint_by_where_a_field_ends() -> None:
    assert transaction(mac, "a", "1", "bc", "d") != transaction(mac, "a", "1", "b", "cd")
    assert transaction(mac, "a", "1", "b") != transaction(mac, "a", "1", "b", "")


def test_a_result_moved_to_another_transaction_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, Now()) as results:
        one, two = transaction(mac, "a", "1"), transaction(mac, "a", "2")
        results.put(one, {"n": 1})
        with closing(sqlite3.connect(tmp_path / "results.db", isolation_level=None)) as beside:
            beside.execute("UPDATE results SET key = ?", (two.key,))
        with pytest.raises(ApiError, match="changed"):
            results.fetch(two.key)


def test_phrases_are_remembered_for_the_horizon(tmp_path: Path) -> None:
    with opened(tmp_path, Now()) as results:
        for number in range(PHRASE_HORIZON + 1):
            results.remember(number.to_bytes(8, "big"))
        assert not results.shown_before((0).to_bytes(8, "big"))
        assert results.shown_before((1).to_bytes(8, "big"))
