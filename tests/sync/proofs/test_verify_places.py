"""What verification says, place by place: one fault is told once, where it is, and no other beside it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest

from sync.cose import peek1
from sync.events import AuditEvent, Record, unit_id
from sync.proofs import chain
from sync.proofs.bundle import Gap, LogBundle, key_to_der, prove_event, prove_growth
from sync.proofs.heads import NO_HEAD, Head, head_hash
from sync.proofs.merkle import Frontier
from sync.proofs.retention import RetentionRecord
from sync.proofs.verify import CLOCK_TOLERANCE_MS, MAX_FINDINGS, verify
from tests.sync.parts import UNIT, SoftwareSigner, event, whole_log
from tests.sync.proofs.test_verify import KEY, LOG, SIGNER, make_log, tail_of

MISSING_HEAD = "a signed head before it is missing, was added or was replaced"
START = "the start of the log"


def told(log: LogBundle, start: int | None = None) -> list[tuple[str, str]]:
    report = verify(log.to_bytes(), KEY, start=start)
    return [(finding.where, finding.what) for finding in report.findings]


def places(log: LogBundle, start: int | None = None) -> list[str]:
    return [where for where, _ in told(log, start)]


def without(log: LogBundle, *, events: range = range(0), heads: tuple[int, ...] = ()) -> LogBundle:
    """The log without the events of these numbers, and without the heads of these sizes."""
    kept = (body for number, body in enumerate(log.events, log.first) if number not in events)
    signed = (head for head in log.heads if Head.from_bytes(peek1(head)).size not in heads)
    return dataclasses.replace(log, events=tuple(kept), heads=tuple(signed))


def declared(log: LogBundle, *gaps: Gap) -> LogBundle:
    return dataclasses.replace(log, gaps=gaps)


def signed_anew(log: LogBundle, number: int, **changes: object) -> LogBundle:
    """The log with one head changed, and signed by the unit itself."""
    head = Head.from_bytes(peek1(log.heads[number]))
    heads = [*log.heads]
    heads[number] = dataclasses.replace(head, **changes).signed(SIGNER)  # type: ignore[arg-type]
    return dataclasses.replace(log, heads=tuple(heads))


def of_events(made: list[AuditEvent]) -> LogBundle:
    """An honest log of these events under one head."""
    bodies = [Record(unit_id(UNIT), number, one).to_bytes() for number, one in enumerate(made, 1)]
    link = chain.extend(chain.genesis(unit_id(UNIT)), bodies)
    root = Frontier().extended(map(chain.leaf_hash, bodies)).root()
    head = Head(unit_id(UNIT), len(bodies), link, root, 0, 3).signed(SIGNER)
    return whole_log(unit_id(UNIT), bodies, [head], key_to_der(KEY))


@pytest.mark.parametrize(("size", "place"), [(3, "head 1"), (4, "head 2"), (8, "head 3"), (10, "head 4")])
def test_a_head_that_was_taken_out_is_told_of_the_one_after_it(size: int, place: str) -> None:
    assert told(without(LOG, heads=(size,))) == [(place, MISSING_HEAD)]


def test_after_a_head_that_cannot_be_read_the_others_are_held_against_each_other() -> None:
    heads = [*LOG.heads]
    heads[1] = b"\xff" * 40
    assert places(dataclasses.replace(LOG, heads=tuple(heads))) == ["head 2"]
    heads[3] = heads[4]
    assert places(dataclasses.replace(LOG, heads=tuple(heads[:4]))) == ["head 2", "head 4"]


def test_two_heads_over_the_same_events_are_one_too_many() -> None:
    again = dataclasses.replace(Head.from_bytes(peek1(LOG.heads[-1])), previous=head_hash(LOG.heads[-1]))
    log = dataclasses.replace(LOG, heads=(*LOG.heads, again.signed(SIGNER)))
    assert told(log) == [("head 6", "it is not newer than the head before it")]


def test_a_hole_excuses_the_heads_inside_it_and_no_later_one() -> None:
    holed = without(LOG, events=range(2, 4), heads=(3,))
    assert places(declared(holed, Gap(2, 4, b""))) == ["events 2 to 3", "events 4 to 4"]
    later = without(LOG, events=range(2, 5), heads=(10,))
    assert places(declared(later, Gap(2, 5, b""))) == ["head 4", "events 2 to 4"]
    next_one = without(LOG, events=range(2, 4), heads=(8,))
    assert places(declared(next_one, Gap(2, 4, b""))) == ["head 3", "events 2 to 3"]


def test_a_chain_told_for_a_hole_is_believed_as_far_as_the_next_head_bears_it_out() -> None:
    before = chain.extend(chain.genesis(unit_id(UNIT)), LOG.events[:5])
    holed = without(LOG, events=range(2, 6))
    assert places(declared(holed, Gap(2, 6, before))) == ["events 2 to 5"]
    assert places(declared(holed, Gap(2, 6, bytes(32)))) == ["events 2 to 5", "events 6 to 8"]
    nothing = told(declared(holed, Gap(2, 6, b"")))
    assert [where for where, _ in nothing] == ["events 2 to 5", "events 6 to 8"]
    assert "no signature can be held against them" in nothing[1][1]


def test_a_hole_that_nobody_declared_is_told_by_the_numbers_of_the_events() -> None:
    assert places(without(LOG, events=range(2, 5))) == ["events 2 to 4"]
    assert places(without(LOG, events=range(11, 13))) == ["events 11 to 12", "events 13 to 13"]
    headless = dataclasses.replace(without(LOG, events=range(1, 4)), heads=())
    assert places(headless)[0] == "event 1"


def test_an_event_must_be_of_this_unit_and_of_this_place() -> None:
    def log(unit: str, sequence: int) -> LogBundle:
        events = [*LOG.events]
        events[5] = dataclasses.replace(
            Record.from_bytes(events[5]), unit=unit_id(unit), sequence=sequence
        ).to_bytes()
        return dataclasses.replace(LOG, events=tuple(events))

    assert told(log("st-mary/other", 6))[0] == ("event 6", "it says it is event 6 of st-mary/other")
    assert told(log(UNIT, 3))[0] == ("event 6", f"it says it is event 3 of {UNIT}")


@pytest.mark.parametrize("number", range(5))
def test_a_root_that_is_not_that_of_the_events_is_found_though_the_chain_is_right(number: int) -> None:
    log = signed_anew(LOG, number, root=bytes(range(32)))
    wrong = [(where, what) for where, what in told(log) if "head" not in where]
    first = (0, 3, 4, 8, 10)[number] + 1
    last = (3, 4, 8, 10, 13)[number]
    assert wrong == [(f"events {first} to {last}", "the Merkle root is not what the unit signed")]


def test_the_root_is_held_against_what_retention_left_too() -> None:
    part = tail_of(LOG, 1)
    log = signed_anew(part, 3, root=bytes(range(32)))
    assert told(log, part.first) == [("events 11 to 13", "the Merkle root is not what the unit signed")]


@pytest.mark.parametrize(
    "change", [{"chain": bytes(32)}, {"frontier": Frontier().extended([bytes(32)]).to_bytes()}]
)
def test_a_whole_log_starts_with_its_own_chain_and_an_empty_tree(change: dict[str, bytes]) -> None:
    told_of = told(dataclasses.replace(LOG, **change))  # type: ignore[arg-type]
    assert told_of[0] == (START, "it does not start as a new log of this unit does")


def test_a_start_without_a_tree_is_proven_by_the_chain_alone() -> None:
    part = dataclasses.replace(tail_of(LOG, 1), frontier=b"")
    assert told(part, part.first) == []
    wrong = dataclasses.replace(part, chain=bytes(32))
    assert told(wrong, part.first)[0] == (START, "it disagrees with the signed head before it")
    readmitted = dataclasses.replace(part, heads=part.heads[1:])
    assert told(readmitted, part.first) == []


def test_a_day_on_record_is_the_same_wherever_the_auditor_sits(west: None) -> None:
    registry, head = SoftwareSigner(), Head.from_bytes(peek1(LOG.heads[0]))
    record = RetentionRecord(LOG.unit, 1, 3, head.chain, "admin", 20_000 * 86_400_000).signed(registry)
    part = dataclasses.replace(tail_of(LOG, 0), records=(record,))
    report = verify(part.to_bytes(), KEY, registry_key=registry.public_key(), checkpoints=[LOG.heads[-1]])
    assert report.notes == ["events 1 to 3 left this log on 2024-10-04, on record: admin"]


@pytest.fixture
def west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose day begins later than the day of Greenwich."""
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("by_ms", "noted"), [(CLOCK_TOLERANCE_MS, 0), (CLOCK_TOLERANCE_MS + 1, 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_may_run_apart_by_five_minutes(by_ms: int, noted: int, sign: int) -> None:
    late = dataclasses.replace(event(2), time_ms=event(2).time_ms + sign * by_ms)
    report = verify(of_events([event(1), late]).to_bytes(), KEY)
    assert report.sound
    assert len([note for note in report.notes if "clock was moved" in note]) == noted


def test_a_report_names_a_hundred_things_and_no_more() -> None:
    forth = [event(n) if n % 2 else dataclasses.replace(event(n), time_ms=1) for n in range(150)]
    report = verify(of_events(forth).to_bytes(), KEY)
    assert len([note for note in report.notes if "clock was moved" in note]) == MAX_FINDINGS
    boots = [dataclasses.replace(event(n), boot=n % 2) for n in range(300)]
    assert len(verify(of_events(boots).to_bytes(), KEY).findings) == MAX_FINDINGS


def test_a_first_head_says_that_there_was_none_before() -> None:
    assert Head.from_bytes(peek1(make_log([1]).heads[0])).previous == NO_HEAD
    assert places(signed_anew(make_log([2]), 0, previous=bytes(range(32)))) == ["head 1"]


def test_a_head_over_what_left_the_file_does_not_belong_in_it() -> None:
    part = dataclasses.replace(tail_of(LOG, 1), heads=LOG.heads)
    assert told(part, part.first) == [("head over 3 events", "it is older than this file")]


def checked(log: LogBundle, *checkpoints: bytes) -> tuple[list[str], list[str]]:
    """Where something is wrong, and what is noted, for an auditor with these checkpoints."""
    report = verify(log.to_bytes(), KEY, start=log.first, checkpoints=checkpoints)
    return [finding.where for finding in report.findings], [n for n in report.notes if "checkpoint" in n]


def test_each_checkpoint_is_looked_at_though_another_cannot_be_read() -> None:
    other = make_log([3, 1, 4], salt=7)
    assert checked(LOG, b"\xff", other.heads[0], LOG.heads[1]) == (["your checkpoint", "events up to 3"], [])


def test_a_checkpoint_at_the_very_start_of_a_file_is_held_against_it_and_an_older_one_is_noted() -> None:
    part = tail_of(LOG, 1)
    assert checked(part, LOG.heads[1]) == ([], [])
    assert checked(part, make_log([3, 1], salt=7).heads[1]) == (["events up to 4"], [])
    assert checked(part, LOG.heads[0]) == ([], ["your checkpoint over 3 events is older than this file"])
    one_by_one = make_log([1, 1, 1, 2])
    assert checked(tail_of(one_by_one, 1), one_by_one.heads[2]) == ([], [])


def test_a_checkpoint_inside_a_hole_is_noted_and_one_at_its_end_is_held_against_the_log() -> None:
    holed = declared(without(LOG, events=range(3, 5)), Gap(3, 5, b""))
    for number in (0, 1):
        wrong, noted = checked(holed, LOG.heads[number])
        assert wrong == ["events 3 to 4"]
        assert "lies where events are missing" in noted[0]
    ends = declared(without(LOG, events=range(2, 4)), Gap(2, 4, b""))
    assert checked(ends, LOG.heads[1]) == (["events 2 to 3"], [])
    assert checked(ends, make_log([3, 1], salt=7).heads[1]) == (["events 2 to 3", "events up to 4"], [])


def test_a_proof_says_of_whom_and_of_how_much_it_is() -> None:
    event_proof = verify(prove_event(LOG, 6).to_bytes(), KEY)
    assert (event_proof.unit, event_proof.kind) == (UNIT, "event")
    assert (event_proof.events, event_proof.heads, event_proof.first, event_proof.last) == (1, 1, 6, 6)
    growth = verify(prove_growth(LOG, LOG.heads[1]).to_bytes(), KEY)
    assert (growth.unit, growth.kind) == (UNIT, "growth")
    assert (growth.events, growth.heads, growth.first, growth.last) == (0, 2, 4, 13)
    assert verify(LOG.to_bytes(), KEY).unit == UNIT


def test_a_proof_that_does_not_hold_is_told_of_the_event_or_of_the_two_heads() -> None:
    proof = prove_event(LOG, 6)
    record = Record.from_bytes(proof.event)
    for wrong in (
        dataclasses.replace(proof, path=()),
        dataclasses.replace(proof, sequence=7),
        dataclasses.replace(proof, event=dataclasses.replace(record, unit=unit_id("st-mary/x")).to_bytes()),
        dataclasses.replace(proof, event=dataclasses.replace(record, sequence=7).to_bytes()),
    ):
        found = verify(wrong.to_bytes(), KEY).findings
        assert [finding.where for finding in found] == ["the event"]
    told_of = verify(dataclasses.replace(proof, sequence=7).to_bytes(), KEY).findings[0].what
    assert told_of == "the event says that it is another one"
    grown = dataclasses.replace(prove_growth(LOG, LOG.heads[1]), path=())
    assert [finding.where for finding in verify(grown.to_bytes(), KEY).findings] == ["the two heads"]


def test_what_the_unit_signed_over_an_edit_agrees_with_the_auditors_checkpoint() -> None:
    events = [*LOG.events]
    record = Record.from_bytes(events[5])
    changed = dataclasses.replace(record.event, kind="DENIED_VOICE")
    events[5] = dataclasses.replace(record, event=changed).to_bytes()
    edited = dataclasses.replace(LOG, events=tuple(events))
    assert checked(edited, LOG.heads[2], LOG.heads[4]) == (["events 5 to 8"], [])


def test_how_a_log_ends_is_said_of_whole_ones_and_of_the_rest_after_retention() -> None:
    last = LOG.heads[-1]
    assert verify(LOG.to_bytes(), KEY, checkpoints=[last]).notes == []
    assert told(without(LOG, heads=(13,))) == [("the end of the log", "no signed head covers the last event")]
    assert told(dataclasses.replace(LOG, heads=())) == told(without(LOG, heads=(13,)))
    assert told(without(LOG, events=range(11, 14))) == [
        ("events 11 to 13", "they are missing: a signed head covers them")
    ]
    nothing_left = tail_of(LOG, 4)
    report = verify(nothing_left.to_bytes(), KEY, start=14, checkpoints=[last])
    assert (report.findings, report.notes) == ([], ["events 1 to 13 are not in this file, as you said"])
