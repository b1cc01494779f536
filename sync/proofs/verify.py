"""Verifies a bundle with the unit's public key alone: says what is wrong, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from sync.errors import MalformedError, ProofError, SyncError
from sync.events import Record, UnitId
from sync.proofs import chain
from sync.proofs.bundle import Bundle, EventProof, Gap, GrowthProof, LogBundle, key_to_der, parse
from sync.proofs.heads import NO_HEAD, Head, head_hash, open_head
from sync.proofs.merkle import Frontier, verify_consistency, verify_inclusion
from sync.proofs.retention import open_record

MAX_FINDINGS = 100
CLOCK_TOLERANCE_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    where: str
    what: str


@dataclass(slots=True)
class Report:
    """The outcome. Sound when nothing was found; `notes` are worth knowing and accuse nobody."""

    unit: str = ""
    kind: str = ""
    events: int = 0
    heads: int = 0
    first: int = 0
    last: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.findings

    def wrong(self, where: str, what: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(where, what))


def verify(
    data: bytes,
    key: ec.EllipticCurvePublicKey,
    *,
    unit: UnitId | None = None,
    checkpoints: Sequence[bytes] = (),
    registry_key: ec.EllipticCurvePublicKey | None = None,
    start: int | None = None,
) -> Report:
    """Check a bundle against the unit's public key, which the auditor brings from elsewhere.

    A log that does not begin with event 1 is sound only where its beginning is accounted for: by records of
    retention that `registry_key` signed, or by the auditor, who says that it begins at `start`. `unit` is
    whose log it should be. `checkpoints` are signed heads that the auditor kept: the log must reach as far
    and agree with them. Without one, a log that ends early looks like an earlier export, as a note says.
    """
    report = Report()
    try:
        bundle = parse(data)
    except MalformedError as err:
        report.wrong("the file", str(err))
        return report
    report.unit = bundle.unit
    # 1. Whose log, and whose key.
    if unit is not None and bundle.unit != unit:
        report.wrong("the file", f"it is about {bundle.unit}, not {unit}")
    if bundle.key != key_to_der(key):
        report.wrong("the file", "it names another key than the one you brought")
    _verify_kind(bundle, key, _Known(checkpoints, registry_key, start), report)
    return report


@dataclass(frozen=True, slots=True)
class _Known:
    """What the auditor brings besides the unit's key."""

    checkpoints: Sequence[bytes]
    registry_key: ec.EllipticCurvePublicKey | None
    start: int | None


def _verify_kind(bundle: Bundle, key: ec.EllipticCurvePublicKey, known: _Known, report: Report) -> None:
    if isinstance(bundle, LogBundle):
        report.kind = "log"
        _LogCheck(bundle, key, known, report).run()
    elif isinstance(bundle, EventProof):
        report.kind = "event"
        _check(report, "the event", lambda: _verify_event(bundle, key, report))
    else:
        report.kind = "growth"
        _check(report, "the two heads", lambda: _verify_growth(bundle, key, report))


def _verify_event(proof: EventProof, key: ec.EllipticCurvePublicKey, report: Report) -> None:
    head = open_head(proof.head, key, proof.unit)
    record = Record.from_bytes(proof.event)
    if record.unit != proof.unit or record.sequence != proof.sequence:
        raise ProofError("the event says that it is another one")
    leaf = chain.leaf_hash(proof.event)
    verify_inclusion(leaf, proof.sequence - 1, head.size, proof.path, head.root)
    report.events, report.heads, report.first, report.last = 1, 1, proof.sequence, proof.sequence


def _verify_growth(proof: GrowthProof, key: ec.EllipticCurvePublicKey, report: Report) -> None:
    old, new = (open_head(message, key, proof.unit) for message in (proof.old_head, proof.new_head))
    verify_consistency(old.size, old.root, new.size, new.root, proof.path)
    report.heads, report.first, report.last = 2, old.size, new.size


class _LogCheck:
    """Walks a log once, from its start to its last head."""

    def __init__(
        self, bundle: LogBundle, key: ec.EllipticCurvePublicKey, known: _Known, report: Report
    ) -> None:
        self._bundle = bundle
        self._key = key
        self._known = known
        self._report = report
        self._heads: dict[int, Head] = {}
        self._chains: dict[int, bytes] = {}
        self._holes: list[Gap] = []

    def run(self) -> None:
        bundle, report = self._bundle, self._report
        report.first, report.events = bundle.first, len(bundle.events)
        # 2. Every head is signed by the unit and follows the one before.
        self._open_heads()
        # 3. It starts where a log starts, or where a head pins it down and somebody accounts for the rest.
        self._check_start()
        # 4. Every event is well formed, in its place, and under a head that agrees.
        self._walk()
        # 5. The last head covers the last event.
        self._check_end()
        # 6. What the auditor already knew must still be true.
        self._check_checkpoints()

    def _open_heads(self) -> None:
        bundle, report = self._bundle, self._report
        previous: Head | None = None
        before = NO_HEAD
        for number, message in enumerate(bundle.heads, start=1):
            where = f"head {number}"
            try:
                head = open_head(message, self._key, bundle.unit)
            except SyncError as err:
                report.wrong(where, str(err))
                before = b""  # the next head cannot be held against one that was not readable
                continue
            if previous is None and bundle.first > 1 and number == 1:
                before = head.previous
            since = previous.size if previous else 0
            # Where events are missing, heads are: that is said once, of the events.
            if any(since < gap.first <= head.size for gap in bundle.gaps):
                before = head.previous
            if before and head.previous != before:
                report.wrong(where, "a signed head before it is missing, was added or was replaced")
            if previous and (head.size <= previous.size or head.boot < previous.boot):
                report.wrong(where, "it is not newer than the head before it")
            if previous and head.counter < previous.counter:
                report.wrong(where, "the unit's counter went back: an old disk was put in")
            self._heads[head.size] = head
            previous, before = head, head_hash(message)
            report.heads += 1

    def _check_start(self) -> None:
        bundle, report = self._bundle, self._report
        if bundle.first < 1:
            report.wrong("the start of the log", "events are numbered from 1")
            return
        if bundle.first == 1:
            if bundle.chain != chain.genesis(bundle.unit) or bundle.frontier != Frontier().to_bytes():
                report.wrong("the start of the log", "it does not start as a new log of this unit does")
            return
        head = self._heads.get(bundle.first - 1)
        try:
            frontier = Frontier.from_bytes(bundle.frontier) if bundle.frontier else None
        except MalformedError as err:
            report.wrong("the start of the log", str(err))
            return
        if head is None and frontier is None:
            pass  # a readmitted unit's log: the record must say so; the next head vouches for the chain
        elif head is None:
            report.wrong("the start of the log", "no signed head covers the event before the first")
        elif head.chain != bundle.chain or (
            frontier and (frontier.root(), frontier.size) != (head.root, head.size)
        ):
            report.wrong("the start of the log", "it disagrees with the signed head before it")
        self._check_beginning()

    def _check_beginning(self) -> None:
        """Deleting the beginning at a signed head leaves no other trace than a missing record."""
        bundle, report, key = self._bundle, self._report, self._known.registry_key
        missing = f"events 1 to {bundle.first - 1}"
        if self._known.start == bundle.first:
            report.notes.append(f"{missing} are not in this file, as you said")
            return
        if not bundle.records or key is None:
            why = "somebody recorded that: check it with the registry's key, --registry-key FILE"
            if not bundle.records:
                why = f"nobody recorded why. If you know that the log begins later, say --from {bundle.first}"
            report.wrong(missing, f"they are missing, and {why}")
            return
        expected, link = 1, b""
        for message in bundle.records:
            try:
                record = open_record(message, key, bundle.unit)
            except SyncError as err:
                report.wrong("a record of retention", str(err))
                return
            if record.first != expected:
                break
            expected, link = record.last + 1, record.chain
            day = datetime.fromtimestamp(record.time_ms / 1000, UTC).date()
            report.notes.append(
                f"events {record.first} to {record.last} left this log on {day}, on record: {record.account}"
            )
        if (expected, link) != (bundle.first, bundle.chain):
            report.wrong(missing, "they are missing, and the records of retention account for others")

    def _walk(self) -> None:
        bundle, report = self._bundle, self._report
        link: bytes | None = bundle.chain
        sequence = covered = bundle.first - 1
        self._chains[covered] = bundle.chain
        try:
            tree: Frontier | None = Frontier.from_bytes(bundle.frontier) if bundle.frontier else None
        except MalformedError:
            tree = None
        declared = {gap.missing_from: gap for gap in bundle.gaps}
        pending: list[bytes] = []
        last: Record | None = None
        for body in bundle.events:
            record = self._read_event(sequence + 1, body)
            gap = declared.pop(sequence + 1, None) or self._undeclared(sequence + 1, record)
            if gap is not None:
                self._missing(gap)
                sequence = covered = gap.first - 1
                # A head over the event before says the chain as well as the unit did.
                head = self._heads.get(sequence)
                link = head.chain if head else gap.chain or None
                tree = None
                pending.clear()
            sequence += 1
            last = self._check_event(sequence, record, last)
            leaf = chain.leaf_hash(body)
            pending.append(leaf)
            if link is not None:
                link = chain.link(link, leaf)
                self._chains[sequence] = link
            head = self._heads.get(sequence)
            if head is None:
                continue
            tree = tree.extended(pending) if tree else None
            where = f"events {covered + 1} to {sequence}"
            if head.chain != link:
                why = "they are not what the unit signed: edited, removed, added or reordered"
                if link is None:
                    why = "no signature can be held against them: what comes before them is missing"
                report.wrong(where, why)
                # Go on from what was signed, so that one edit is reported once and in its place.
                link, tree = head.chain, None
                self._chains[sequence] = link
            elif tree is not None and head.root != tree.root():
                report.wrong(where, "the Merkle root is not what the unit signed")
                tree = None
            pending.clear()
            covered = sequence
        report.last = sequence
        for gap in declared.values():
            report.wrong(f"event {gap.missing_from}", "the file says that events are missing here; none are")

    def _read_event(self, sequence: int, body: bytes) -> Record | None:
        try:
            return Record.from_bytes(body)
        except MalformedError as err:
            self._report.wrong(f"event {sequence}", str(err))
            return None

    def _undeclared(self, expected: int, record: Record | None) -> Gap | None:
        """A hole that only the next event's own number tells of."""
        if record is None or record.unit != self._bundle.unit:
            return None
        if not expected < record.sequence <= max(self._heads, default=0):
            return None
        return Gap(expected, record.sequence, b"")

    def _missing(self, gap: Gap) -> None:
        self._holes.append(gap)
        span = f"events {gap.missing_from} to {gap.first - 1}"
        self._report.wrong(
            span, "they are missing: the unit has written them, and this file does not have them"
        )

    def _check_end(self) -> None:
        report, newest = self._report, max(self._heads, default=0)
        if not report.events and not self._heads and self._bundle.first == 1:
            report.notes.append("this log has no event yet")
        elif newest > report.last:
            report.wrong(
                f"events {report.last + 1} to {newest}", "they are missing: a signed head covers them"
            )
        elif newest < report.last or report.last not in self._heads:
            report.wrong("the end of the log", "no signed head covers the last event")
        for size in self._heads:
            if size < self._bundle.first - 1:
                report.wrong(f"head over {size} events", "it is older than this file")

    def _check_event(self, sequence: int, record: Record | None, last: Record | None) -> Record | None:
        report, where = self._report, f"event {sequence}"
        if record is None:
            return last
        if record.unit != self._bundle.unit or record.sequence != sequence:
            report.wrong(where, f"it says it is event {record.sequence} of {record.unit}")
        if last is not None:
            if record.event.boot < last.event.boot:
                report.wrong(where, "the boot number went back")
            elif record.event.boot == last.event.boot:
                drift = (record.event.time_ms - last.event.time_ms) - (
                    record.event.monotonic_ms - last.event.monotonic_ms
                )
                if abs(drift) > CLOCK_TOLERANCE_MS and len(report.notes) < MAX_FINDINGS:
                    report.notes.append(f"{where}: the unit's clock was moved by {drift / 1000:.0f} s")
        return record

    def _check_checkpoints(self) -> None:
        bundle, report, checkpoints = self._bundle, self._report, self._known.checkpoints
        if not checkpoints:
            report.notes.append(
                "no checkpoint was given, so a log that ends early cannot be told from an older export"
            )
        for message in checkpoints:
            try:
                head = open_head(message, self._key, bundle.unit)
            except SyncError as err:
                report.wrong("your checkpoint", str(err))
                continue
            known = self._chains.get(head.size)
            if head.size > report.last:
                report.wrong("the end of the log", f"it ends before event {head.size} of your checkpoint")
            elif head.size < bundle.first - 1:
                report.notes.append(f"your checkpoint over {head.size} events is older than this file")
            elif any(gap.missing_from <= head.size < gap.first for gap in self._holes):
                report.notes.append(f"your checkpoint over {head.size} events lies where events are missing")
            elif known != head.chain:
                report.wrong(f"events up to {head.size}", "your checkpoint disagrees: the log was rewritten")


def _check(report: Report, where: str, check: Callable[[], None]) -> None:
    try:
        check()
    except SyncError as err:
        report.wrong(where, str(err))
