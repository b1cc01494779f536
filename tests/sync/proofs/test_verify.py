"""`audit verify`: every mutation of an exported log is found, and no honest log is accused."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync.cose import peek1
from sync.errors import MalformedError, ProofError
from sync.events import Record, unit_id
from sync.proofs import chain
from sync.proofs.audit_cli import audit
from sync.proofs.bundle import Gap, LogBundle, key_to_der, prove_event, prove_growth
from sync.proofs.heads import NO_HEAD, Head, head_hash
from sync.proofs.merkle import Frontier
from sync.proofs.retention import RetentionRecord
from sync.proofs.verify import Report, verify
from tests.sync.parts import UNIT, SoftwareSigner, event, whole_log

SIGNER = SoftwareSigner()
KEY = SIGNER.public_key()


def make_log(
    batches: list[int], signer: SoftwareSigner = SIGNER, unit: str = UNIT, salt: int = 0
) -> LogBundle:
    """An honest log whose heads are `batches` events apart."""
    events: list[bytes] = []
    heads: list[bytes] = []
    link, tree, before = chain.genesis(unit_id(unit)), Frontier(), NO_HEAD
    for batch in batches:
        for _ in range(batch):
            number = len(events) + 1
            made = event(number, event_id=uuid.UUID(int=number + salt * 1000, version=4))
            events.append(Record(unit_id(unit), number, made).to_bytes())
        fresh = events[len(events) - batch :]
        link = chain.extend(link, fresh)
        tree = tree.extended(map(chain.leaf_hash, fresh))
        head = Head(unit_id(unit), tree.size, link, tree.root(), 1_790_000_000_000, 3, 1, before)
        heads.append(head.signed(signer))
        before = head_hash(heads[-1])
    return whole_log(unit_id(unit), events, heads, key_to_der(signer.public_key()))


def tail_of(log: LogBundle, head_number: int) -> LogBundle:
    """What an export holds when everything up to a head has passed its retention."""
    head = Head.from_bytes(peek1(log.heads[head_number]))
    tree = Frontier().extended(map(chain.leaf_hash, log.events[: head.size]))
    return LogBundle(
        log.unit,
        log.key,
        head.size + 1,
        head.chain,
        tree.to_bytes(),
        log.events[head.size :],
        log.heads[head_number:],
    )


LOG = make_log([3, 1, 4, 2, 3])
Mutation = Callable[[LogBundle, random.Random], bytes]


def flip_a_bit(log: LogBundle, dice: random.Random) -> bytes:
    data = bytearray(log.to_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def cut_the_file(log: LogBundle, dice: random.Random) -> bytes:
    data = log.to_bytes()
    return data[: dice.randrange(len(data))]


def add_bytes(log: LogBundle, dice: random.Random) -> bytes:
    return log.to_bytes() + dice.randbytes(dice.randint(1, 20))


def drop_the_end(log: LogBundle, dice: random.Random) -> bytes:
    heads = log.heads[: dice.randrange(len(log.heads))]
    size = Head.from_bytes(peek1(heads[-1])).size if heads else 0
    return dataclasses.replace(log, heads=heads, events=log.events[: max(0, size - log.first + 1)]).to_bytes()


def drop_an_event(log: LogBundle, dice: random.Random) -> bytes:
    events = list(log.events)
    del events[dice.randrange(len(events))]
    return dataclasses.replace(log, events=tuple(events)).to_bytes()


def reorder(log: LogBundle, dice: random.Random) -> bytes:
    events = list(log.events)
    a, b = dice.sample(range(len(events)), 2)
    events[a], events[b] = events[b], events[a]
    return dataclasses.replace(log, events=tuple(events)).to_bytes()


def repeat_an_event(log: LogBundle, dice: random.Random) -> bytes:
    events = list(log.events)
    events.insert(dice.randrange(len(events) + 1), dice.choice(events))
    return dataclasses.replace(log, events=tuple(events)).to_bytes()


def edit_an_event(log: LogBundle, dice: random.Random) -> bytes:
    events = list(log.events)
    place = dice.randrange(len(events))
    record = Record.from_bytes(events[place])
    changed = dataclasses.replace(record.event, kind="DENIED_VOICE", spoof_llr=-dice.random())
    events[place] = dataclasses.replace(record, event=changed).to_bytes()
    return dataclasses.replace(log, events=tuple(events)).to_bytes()


def remove_a_head(log: LogBundle, dice: random.Random) -> bytes:
    heads = list(log.heads)
    del heads[dice.randrange(len(heads))]
    return dataclasses.replace(log, heads=tuple(heads)).to_bytes()


def swap_heads(log: LogBundle, dice: random.Random) -> bytes:
    heads = list(log.heads)
    a, b = dice.sample(range(len(heads)), 2)
    heads[a], heads[b] = heads[b], heads[a]
    return dataclasses.replace(log, heads=tuple(heads)).to_bytes()


def rewrite_with_a_new_chain(log: LogBundle, dice: random.Random) -> bytes:
    """Everything consistent, signed by a key that the forger has, under the unit's key in the file."""
    forged = make_log([3, 1, 4, 2, 3], SoftwareSigner(), salt=dice.randrange(1, 1000))
    return dataclasses.replace(forged, key=dice.choice([forged.key, log.key])).to_bytes()


def rewrite_a_part_and_keep_the_heads(log: LogBundle, dice: random.Random) -> bytes:
    other = make_log([3, 1, 4, 2, 3], salt=dice.randrange(1, 1000))
    place = dice.randrange(len(log.events))
    return dataclasses.replace(
        log, events=log.events[:place] + other.events[log.first - 1 :][place:]
    ).to_bytes()


def start_later(log: LogBundle, dice: random.Random) -> bytes:
    skip = dice.randint(1, len(log.events) - 1)
    return dataclasses.replace(log, first=log.first + skip, events=log.events[skip:]).to_bytes()


MUTATIONS: list[Mutation] = [
    flip_a_bit,
    cut_the_file,
    add_bytes,
    drop_the_end,
    drop_an_event,
    reorder,
    repeat_an_event,
    edit_an_event,
    remove_a_head,
    swap_heads,
    rewrite_with_a_new_chain,
    rewrite_a_part_and_keep_the_heads,
    start_later,
]


@pytest.mark.slow
def test_ten_thousand_mutations_are_all_detected(capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(20261122)
    logs = [(LOG, LOG.to_bytes()), (tail_of(LOG, 1), tail_of(LOG, 1).to_bytes())]
    tally = dict.fromkeys((m.__name__ for m in MUTATIONS), 0)
    missed: list[str] = []
    while sum(tally.values()) < 10_000:
        log, honest = dice.choice(logs)
        mutate = dice.choice(MUTATIONS)
        data = mutate(log, dice)
        if data == honest:
            continue
        tally[mutate.__name__] += 1
        if verify(data, KEY, unit=unit_id(UNIT), checkpoints=[LOG.heads[-1]], start=log.first).sound:
            missed.append(mutate.__name__)
    with capsys.disabled():
        print(f"\nmutations: {sum(tally.values())}, missed: {len(missed)} | {tally}")
    assert missed == []


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_each_kind_of_mutation_is_detected_and_explained(mutate: Mutation) -> None:
    report = verify(mutate(LOG, random.Random(7)), KEY, checkpoints=[LOG.heads[-1]])
    assert report.findings
    assert all(finding.where and finding.what for finding in report.findings)


@pytest.mark.slow
def test_no_honest_log_is_accused() -> None:
    dice = random.Random(4)
    for _ in range(200):
        log = make_log([dice.randint(1, 9) for _ in range(dice.randint(1, 8))])
        checkpoints = dice.sample(log.heads, dice.randint(0, len(log.heads)))
        assert verify(log.to_bytes(), KEY, unit=unit_id(UNIT), checkpoints=checkpoints).findings == []
        part = tail_of(log, dice.randrange(len(log.heads)))
        assert verify(part.to_bytes(), KEY, start=part.first, checkpoints=checkpoints).findings == []


@pytest.mark.parametrize("head_number", range(len(LOG.heads)))
def test_what_is_left_after_retention_is_accused_of_nothing_where_the_auditor_knows_of_it(
    head_number: int,
) -> None:
    part = tail_of(LOG, head_number)
    report = verify(part.to_bytes(), KEY, start=part.first, checkpoints=[LOG.heads[-1]])
    assert report.findings == []
    assert f"events 1 to {part.first - 1} are not in this file, as you said" in report.notes
    assert (report.first, report.last, report.heads) == (part.first, 13, len(LOG.heads) - head_number)


def test_what_left_a_log_is_told_of_each_record_in_turn_and_records_must_join() -> None:
    registry = SoftwareSigner()

    def record(first: int, head_number: int, day: int) -> bytes:
        head = Head.from_bytes(peek1(LOG.heads[head_number]))
        when_ms = day * 86_400_000
        return RetentionRecord(LOG.unit, first, head.size, head.chain, "admin", when_ms).signed(registry)

    part = tail_of(LOG, 2)

    def told(*records: bytes) -> Report:
        kept = dataclasses.replace(part, records=records)
        return verify(kept.to_bytes(), KEY, registry_key=registry.public_key(), checkpoints=[LOG.heads[-1]])

    whole = told(record(1, 0, 20_000), record(4, 2, 20_001))
    assert whole.findings == []
    assert whole.notes == [
        "events 1 to 3 left this log on 2024-10-04, on record: admin",
        "events 4 to 8 left this log on 2024-10-05, on record: admin",
    ]
    for records in ([record(4, 2, 1)], [record(1, 0, 1)], [record(1, 0, 1), record(5, 2, 1)]):
        report = told(*records)
        assert [finding.where for finding in report.findings] == ["events 1 to 8"]
        assert "account for others" in report.findings[0].what
    lone = verify(part.to_bytes(), KEY)
    assert [finding.where for finding in lone.findings] == ["events 1 to 8"]
    assert "nobody recorded why. If you know that the log begins later, say --from 9" in lone.findings[0].what
    unproven = verify(dataclasses.replace(part, records=(record(1, 2, 1),)).to_bytes(), KEY)
    assert "check it with the registry's key" in unproven.findings[0].what


def test_a_beginning_that_its_signed_head_does_not_bear_out_is_refused() -> None:
    part = tail_of(LOG, 1)
    other = tail_of(LOG, 0)
    wrong = {"chain": other.chain, "frontier": other.frontier}
    for name, value in wrong.items():
        report = verify(dataclasses.replace(part, **{name: value}).to_bytes(), KEY, start=part.first)
        assert "the start of the log" in {finding.where for finding in report.findings}, name
    headless = dataclasses.replace(part, heads=part.heads[1:])
    report = verify(headless.to_bytes(), KEY, start=part.first)
    assert "no signed head covers the event before the first" in {finding.what for finding in report.findings}


def test_a_head_of_an_earlier_start_of_the_unit_cannot_follow_a_later_one() -> None:
    first, second = (Head.from_bytes(peek1(message)) for message in make_log([3, 1]).heads)
    log = make_log([3, 1])
    older = dataclasses.replace(second, boot=first.boot - 1).signed(SIGNER)
    report = verify(dataclasses.replace(log, heads=(log.heads[0], older)).to_bytes(), KEY)
    assert ("head 2", "it is not newer than the head before it") in {
        (f.where, f.what) for f in report.findings
    }
    back = dataclasses.replace(second, counter=first.counter - 1).signed(SIGNER)
    report = verify(dataclasses.replace(log, heads=(log.heads[0], back)).to_bytes(), KEY)
    assert "the unit's counter went back: an old disk was put in" in {f.what for f in report.findings}


def test_an_unreadable_event_is_named_by_its_place() -> None:
    events = list(LOG.events)
    events[6] = b"\xff"
    report = verify(dataclasses.replace(LOG, events=tuple(events)).to_bytes(), KEY)
    assert "event 7" in {finding.where for finding in report.findings}


def test_a_hole_is_told_once_and_what_follows_it_is_still_proven() -> None:
    """Head 2 covers event 4, so a hole that ends there hides nothing of what comes after."""
    kept = tuple(body for number, body in enumerate(LOG.events, start=1) if number not in (2, 3, 4))
    holed = dataclasses.replace(LOG, events=kept, gaps=(Gap(2, 5, b""),))
    report = verify(holed.to_bytes(), KEY, checkpoints=[LOG.heads[-1]])
    assert [finding.where for finding in report.findings] == ["events 2 to 4"]
    edited = list(kept)
    record = Record.from_bytes(edited[-1])
    edited[-1] = dataclasses.replace(
        record, event=dataclasses.replace(record.event, kind="DENIED_VOICE")
    ).to_bytes()
    report = verify(dataclasses.replace(holed, events=tuple(edited)).to_bytes(), KEY)
    assert [finding.where for finding in report.findings] == ["events 2 to 4", "events 11 to 13"]


def test_an_empty_log_is_sound_and_says_that_it_is_empty() -> None:
    report = verify(make_log([]).to_bytes(), KEY)
    assert report.sound
    assert (report.kind, report.notes[0]) == ("log", "this log has no event yet")
    assert verify(prove_event(LOG, 2).to_bytes(), KEY).kind == "event"
    assert verify(prove_growth(LOG, LOG.heads[1]).to_bytes(), KEY).kind == "growth"


def test_one_edited_event_is_reported_once_in_its_place() -> None:
    events = list(LOG.events)
    record = Record.from_bytes(events[5])
    changed = dataclasses.replace(record.event, kind="DENIED_VOICE")
    events[5] = dataclasses.replace(record, event=changed).to_bytes()
    report = verify(dataclasses.replace(LOG, events=tuple(events)).to_bytes(), KEY)
    assert [finding.where for finding in report.findings] == ["events 5 to 8"]


def test_a_log_that_ends_early_is_only_a_note_without_a_checkpoint() -> None:
    early = make_log([3, 1])
    report = verify(early.to_bytes(), KEY)
    assert report.sound
    assert any("ends early" in note for note in report.notes)
    assert not verify(early.to_bytes(), KEY, checkpoints=[LOG.heads[-1]]).sound


def test_a_moved_clock_is_noted_and_accuses_nobody() -> None:
    moved = dataclasses.replace(event(4), time_ms=event(4).time_ms + 86_400_000)
    bodies = [Record(unit_id(UNIT), i, event(i)).to_bytes() for i in range(1, 4)]
    bodies.append(Record(unit_id(UNIT), 4, moved).to_bytes())
    tree = Frontier().extended(map(chain.leaf_hash, bodies))
    link = chain.extend(chain.genesis(unit_id(UNIT)), bodies)
    head = Head(unit_id(UNIT), 4, link, tree.root(), 0, 3).signed(SIGNER)
    report = verify(whole_log(unit_id(UNIT), bodies, [head], key_to_der(KEY)).to_bytes(), KEY)
    assert report.sound
    assert any("clock was moved by 86400 s" in note for note in report.notes)


def test_event_and_growth_proofs_verify_and_any_flipped_bit_is_refused() -> None:
    for proof in (prove_event(LOG, 6), prove_growth(LOG, LOG.heads[1])):
        data = proof.to_bytes()
        assert verify(data, KEY, unit=unit_id(UNIT)).findings == []
        for position in range(len(data)):
            flipped = bytearray(data)
            flipped[position] ^= 4
            assert not verify(bytes(flipped), KEY, unit=unit_id(UNIT)).sound


def test_what_is_left_after_retention_still_proves_its_events_and_its_growth() -> None:
    part = tail_of(LOG, 1)
    for sequence in range(part.first, part.first + len(part.events)):
        proof = prove_event(part, sequence)
        assert proof == prove_event(LOG, sequence)
        assert verify(proof.to_bytes(), KEY, unit=unit_id(UNIT)).findings == []
    for head in LOG.heads[1:]:
        assert verify(prove_growth(part, head).to_bytes(), KEY).findings == []
    for proof_of_what_is_gone in (lambda: prove_event(part, 2), lambda: prove_growth(part, LOG.heads[0])):
        with pytest.raises(ProofError):
            proof_of_what_is_gone()


def test_proofs_need_an_event_that_exists_and_a_log_that_starts_where_it_says() -> None:
    with pytest.raises(ProofError):
        prove_event(LOG, 99)
    with pytest.raises(MalformedError):
        prove_event(dataclasses.replace(LOG, first=3), 5)
    with pytest.raises(MalformedError):
        prove_event(dataclasses.replace(LOG, heads=()), 5)


def test_the_command_answers_zero_one_and_says_where(tmp_path: Path) -> None:
    run = CliRunner().invoke
    good, bad, key = tmp_path / "log.bundle", tmp_path / "bad.bundle", tmp_path / "unit.pem"
    good.write_bytes(LOG.to_bytes())
    bad.write_bytes(reorder(LOG, random.Random(1)))
    key.write_bytes(KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    sound = run(audit, ["verify", str(good), "--key", str(key), "--unit", UNIT])
    assert (sound.exit_code, "sound" in sound.output) == (0, True)
    broken = run(audit, ["verify", str(bad), "--key", str(key), "--json"])
    assert (broken.exit_code, '"sound": false' in broken.output) == (1, True)
    alone = run(audit, ["verify", str(good)])
    assert (alone.exit_code, "came with the file" in alone.output) == (0, True)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff" * 100)
    assert run(audit, ["verify", str(garbage)]).exit_code == 1
    head, proof = tmp_path / "head", tmp_path / "proof"
    assert run(audit, ["checkpoint", str(good), "-o", str(head)]).exit_code == 0
    assert run(audit, ["prove", str(good), "4", "-o", str(proof)]).exit_code == 0
    assert run(audit, ["verify", str(proof), "--key", str(key)]).exit_code == 0
    assert run(audit, ["growth", str(good), str(head), "-o", str(proof)]).exit_code == 0
    assert run(audit, ["verify", str(good), "--key", str(key), "--checkpoint", str(head)]).exit_code == 0
    assert len(run(audit, ["show", str(good)]).output.splitlines()) == len(LOG.events)
