"""Commands at the edge of their time, their numbers and their size: the last good one, and the first bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cbor2
import pytest

from sync import cose
from sync.cbor import dump_fields
from sync.errors import MalformedError, ProofError, SyncError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS
from sync.orders.command_handler import (
    MAX_LEDGER_BYTES,
    CommandFailedError,
    CommandHandler,
    CommandLedger,
    number,
)
from sync.orders.commands import (
    CLOCK_TOLERANCE_MS,
    COMMAND_TYPE,
    MAX_ARGUMENT_BYTES,
    MAX_LIFE_MS,
    RESULT_TYPE,
    Result,
    open_command,
    open_result,
)
from tests.sync.orders.test_commands import NAME, REGISTRY, SIGNER, Desk, command
from tests.sync.orders.test_commands import desk as desk
from tests.sync.parts import START_MS


@pytest.mark.parametrize(
    ("away_ms", "told"),
    [
        (0, ("done", "none")),
        (59_999, ("done", "none")),
        (60_000, ("refused", "expired")),
        (-CLOCK_TOLERANCE_MS, ("done", "none")),
        (-CLOCK_TOLERANCE_MS - 1, ("refused", "future")),
    ],
)
def test_a_command_is_in_force_from_a_minute_before_it_was_given_until_it_expires(
    desk: Desk, away_ms: int, told: tuple[str, str]
) -> None:
    desk.clock.now_ms += away_ms
    assert desk.hears(command())[1:] == told
    assert len(desk.obeyed) == (told[0] == "done")


def arguments_of(size: int) -> dict[str, str | int | bytes]:
    made: dict[str, str | int | bytes] = {"name": ""}
    made["name"] = "x" * (size - len(cbor2.dumps({"name": "x" * (size - 20)})) + size - 20)
    assert len(cbor2.dumps(made)) == size
    return made


GOOD: list[dict[str, Any]] = [
    {"expires_ms": START_MS + MAX_LIFE_MS},
    {"expires_ms": START_MS + 1},
    {"issued_ms": 0, "expires_ms": 1},
    {"issued_ms": MAX_TIME_MS - 1, "expires_ms": MAX_TIME_MS},
    {"counter": MAX_SEQUENCE},
    {"arguments": {"a" * 32: b"\x00", "z_": "", "number": MAX_SEQUENCE, "under": -MAX_SEQUENCE}},
    {"arguments": arguments_of(MAX_ARGUMENT_BYTES)},
]
BAD: list[dict[str, Any]] = [
    {"expires_ms": START_MS + MAX_LIFE_MS + 1},
    {"expires_ms": START_MS},
    {"expires_ms": START_MS - 1},
    {"issued_ms": -1, "expires_ms": 1},
    {"issued_ms": MAX_TIME_MS, "expires_ms": MAX_TIME_MS + 1},
    {"issued_ms": 0.0, "expires_ms": 1},
    {"issued_ms": 0, "expires_ms": True},
    {"counter": MAX_SEQUENCE + 1},
    {"counter": True},
    {"counter": 0},
    {"arguments": {"a" * 33: 1}},
    {"arguments": {"": 1}},
    {"arguments": {"name1": 1}},
    {"arguments": {1: 1}},
    {"arguments": {"name": True}},
    {"arguments": {"name": None}},
    {"arguments": {"number": MAX_SEQUENCE + 1}},
    {"arguments": {"number": -MAX_SEQUENCE - 1}},
    {"arguments": arguments_of(MAX_ARGUMENT_BYTES + 1)},
    {"action": "lock_down "},
    {"action": None},
]


@pytest.mark.parametrize("changes", GOOD)
def test_what_is_just_within_its_limits_is_a_command_and_arrives_as_it_was_sent(
    changes: dict[str, Any],
) -> None:
    made = command(**changes)
    told = open_command(made.signed(REGISTRY), REGISTRY.public_key(), NAME, made.issued_ms)
    assert told == made


@pytest.mark.parametrize("changes", BAD)
def test_what_is_just_beyond_its_limits_is_no_command(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        command(**changes)


def test_a_form_of_command_or_result_that_is_not_known_here_is_refused() -> None:
    for version in (0, 2):
        fields = dump_fields(version, NAME, 1, START_MS, START_MS + 1, "lock_down", {})
        sent = cose.sign1(fields, REGISTRY, COMMAND_TYPE)
        with pytest.raises(MalformedError, match="unknown form"):
            open_command(sent, REGISTRY.public_key(), NAME, START_MS)
        told = cose.sign1(dump_fields(version, NAME, 1, "done", "none", START_MS), SIGNER, RESULT_TYPE)
        with pytest.raises(MalformedError, match="unknown form"):
            open_result(told, SIGNER.public_key(), NAME)


@pytest.mark.parametrize("number_", [0, 1, MAX_SEQUENCE])
@pytest.mark.parametrize("time_ms", [0, MAX_TIME_MS])
def test_results_count_from_zero_to_the_highest_number(number_: int, time_ms: int) -> None:
    made = Result(NAME, number_, "interrupted", "killed", time_ms)
    assert open_result(made.signed(SIGNER), SIGNER.public_key(), NAME) == made


@pytest.mark.parametrize(
    ("counter", "time_ms"), [(MAX_SEQUENCE + 1, 0), (1, -1), (1, MAX_TIME_MS + 1), (-1, START_MS)]
)
def test_results_with_a_number_out_of_range_are_refused(counter: int, time_ms: int) -> None:
    with pytest.raises(MalformedError):
        open_result(Result(NAME, counter, "done", "none", time_ms).signed(SIGNER), SIGNER.public_key(), NAME)


def test_a_number_in_the_arguments_is_whole_and_in_range() -> None:
    for good in (0, 1, MAX_SEQUENCE):
        assert number({"after": good}, "after") == good
    for bad in (-1, MAX_SEQUENCE + 1, True, "5", b"5", None):
        with pytest.raises(CommandFailedError) as told:
            number({"after": bad}, "after")  # type: ignore[dict-item]
        assert told.value.why == "bad_arguments"
    with pytest.raises(CommandFailedError):
        number({}, "after")


@pytest.mark.parametrize(
    "good",
    [
        [1, 0, None],
        [1, 0, b""],
        [1, 3, b"told"],
        [1, MAX_SEQUENCE - 1, b"x" * 99],
        [1, MAX_SEQUENCE, b"x"],
        [1, 3, None],
    ],
)
def test_a_ledger_is_read_as_it_was_written(tmp_path: Path, good: list[object]) -> None:
    (tmp_path / "commands").write_bytes(cbor2.dumps(good))
    entry = CommandLedger(tmp_path / "commands").last()
    assert [1, entry.counter, entry.answer] == good


@pytest.mark.parametrize(
    "bad",
    [
        [0, 1, None], [2, 1, None], [1, -1, None], [1, MAX_SEQUENCE + 1, None], [1, True, None],
        [1, 1, "told"], [1, 1], [1, 1, None, None], {"1": 1}, 7, [1, 3, bytes(MAX_LEDGER_BYTES)],
    ],
)  # fmt: skip
def test_a_ledger_of_another_form_obeys_nothing(desk: Desk, tmp_path: Path, bad: object) -> None:
    (tmp_path / "commands").write_bytes(cbor2.dumps(bad))
    with pytest.raises(SyncError, match="damaged"):
        desk.hears(command(5))
    assert desk.obeyed == []


def test_the_number_that_is_next_is_obeyed_and_the_one_before_is_not(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "commands").write_bytes(cbor2.dumps([1, 4, b""]))
    assert desk.hears(command(5))[1] == "done"
    assert desk.handler.ledger.last().counter == 5
    with pytest.raises(SyncError, match="obeyed before"):
        desk.hears(command(4))


def test_a_number_that_was_claimed_is_claimed_by_nobody_again(desk: Desk) -> None:
    ledger = desk.handler.ledger
    ledger.take(command(5))
    for counter in (5, 4):
        with pytest.raises(ProofError, match="obeyed before"):
            ledger.take(command(counter))
    assert ledger.last().counter == 5


def test_what_cannot_be_noted_is_not_obeyed(tmp_path: Path) -> None:
    away = Desk(tmp_path / "gone")
    with pytest.raises(SyncError, match="could not be noted"):
        away.hears(command())
    assert away.obeyed == []


def test_a_unit_that_keeps_no_notes_answers_all_the_same(tmp_path: Path, desk: Desk) -> None:
    quiet = CommandHandler(
        NAME,
        REGISTRY.public_key(),
        SIGNER,
        CommandLedger(tmp_path / "other"),
        desk.clock,
        {"lock_down": desk.obey},
    )
    told = open_result(quiet.take(command().signed(REGISTRY)), SIGNER.public_key(), NAME)
    assert (told.counter, told.status, told.why, told.time_ms) == (1, "done", "none", desk.clock())
    assert quiet.last_answer() == CommandLedger(tmp_path / "other").last().answer
