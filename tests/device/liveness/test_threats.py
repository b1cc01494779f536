"""What a unit does with a list of threats, and what it leaves for the registry: nothing before it has one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.errors import DeviceError
from device.liveness.threats.bouts import MOST_BOUTS, Bouts
from device.liveness.threats.known import KnownAttacks
from device.liveness.threats.print_box import GATHERED, MOST_LEFT, SENT_OF_GATHERED, PrintBox
from device.models.spoof.prints import SEEN, shipped
from device.uplink.letters.prints import PrintMail, held_list
from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.threats.listed import Threat, ThreatList
from sync.threats.prints import MODEL, VALUES, as_values, numbers, open_print, signed_kept

UNIT = unit_id("st-mary/icu-2")
TENANT = ec.generate_private_key(ec.SECP256R1())
POINT = TENANT.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
NOW_MS = 1_790_000_000_000


def values(seed: int) -> bytes:
    dice = random.Random(seed)
    return as_values([dice.gauss(0, 1) for _ in range(VALUES)])


def listed(version: int, *seeds: int, expires_ms: int = NOW_MS + 1000) -> bytes:
    threats = tuple(Threat(seed, values(seed), 700) for seed in seeds)
    return ThreatList(version, expires_ms, MODEL, POINT, threats).to_bytes()


class Clock:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def known(tmp_path: Path) -> KnownAttacks:
    return KnownAttacks(tmp_path / "threats", Clock())


def test_an_attempt_that_resembles_a_threat_is_found_and_another_is_not(known: KnownAttacks) -> None:
    assert known.match(values(1)) is None
    assert known.adopt(listed(3, 1, 2)) == (2, 0)
    found = known.match(values(1))
    assert found is not None
    assert (found.campaign, found.scores()["campaign"]) == (1, 1.0)
    assert found.likeness == pytest.approx(1.0)
    assert known.match(values(9)) is None
    assert known.match(b"") is None


def test_a_list_is_taken_whole_and_survives_a_restart_and_its_end(tmp_path: Path) -> None:
    clock = Clock()
    KnownAttacks(tmp_path, clock).adopt(listed(3, 1))
    again = KnownAttacks(tmp_path, clock)
    assert again.version == 3
    assert again.match(values(1)) is not None
    clock.now_ms += 1000
    assert again.match(values(1)) is None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (listed(2, 1), "older than"),
        (b"", "no list of threats"),
        (b"\xa8" + bytes(2000), "no list of threats"),
        (listed(9, 1, expires_ms=NOW_MS), "expired"),
    ],
)
def test_what_is_older_broken_or_over_leaves_the_list_as_it_was(
    known: KnownAttacks, data: bytes, complaint: str
) -> None:
    known.adopt(listed(3, 1))
    with pytest.raises(DeviceError, match=complaint):
        known.adopt(data)
    assert known.version == 3
    assert known.match(values(1)) is not None


def test_a_damaged_file_warns_of_nothing_and_the_next_list_mends_it(tmp_path: Path) -> None:
    KnownAttacks(tmp_path, Clock()).adopt(listed(3, 1))
    (tmp_path / "threats").write_bytes(b"\xa0")
    damaged = KnownAttacks(tmp_path, Clock())
    assert (damaged.version, damaged.match(values(1))) == (0, None)
    assert damaged.adopt(listed(4, 1)) == (1, 0)


def test_a_threat_that_resembles_this_doors_own_people_is_not_used_here(known: KnownAttacks) -> None:
    for _ in range(3):
        known.granted(values(1))
    for seed in range(50, 80):
        known.granted(values(seed))
    known.keep()
    assert known.adopt(listed(3, 1, 2)) == (1, 1)
    assert known.match(values(1)) is None
    assert known.match(values(2)) is not None


def test_what_another_kind_of_prints_remembered_of_people_counts_for_nothing_and_goes(tmp_path: Path) -> None:
    older = tmp_path / "granted-prints"  # its name before prints had a second kind
    older.write_bytes(values(1) * 8)
    known = KnownAttacks(tmp_path, Clock())
    assert known.adopt(listed(3, 1)) == (1, 0)
    for _ in range(3):
        known.granted(values(1))
    known.keep()
    assert not older.exists()
    assert KnownAttacks(tmp_path, Clock()).match(values(1)) is None, "its own kind is remembered"


# -- Attempts for one person at one door, together.


def noisy(seed: int, number: int, alike: float = 0.65) -> bytes:
    """One of many prints of a tool, each of them so alike to what they have in common."""
    dice = np.random.default_rng([seed, number])
    tool, other = np.array(numbers(values(seed)), float), dice.standard_normal(VALUES)
    tool /= np.linalg.norm(tool)
    other -= (other @ tool) * tool
    other /= np.linalg.norm(other)
    return as_values((alike * tool + np.sqrt(1.0 - alike**2) * other).tolist())


@pytest.fixture
def bouts(known: KnownAttacks) -> Bouts:
    known.adopt(listed(3, 1))
    return Bouts(known)


def tried(bouts: Bouts, *prints: bytes, door: str = "icu", person: str = "4711") -> list[bool]:
    """Whether each of some attempts, a minute apart, resembled a threat; all of them fail."""
    found = []
    for number, one in enumerate(prints):
        found.append(bouts.match(one, door, person, 60.0 * number) is not None)
        bouts.note("DENIED_SPOOF", one, door, person, 60.0 * number)
    return found


def test_attempts_that_resemble_no_threat_by_themselves_do_so_together(
    bouts: Bouts, known: KnownAttacks
) -> None:
    prints = [noisy(1, number) for number in range(4)]
    assert [known.match(one) is not None for one in prints] == [False] * 4
    first, _, *later = tried(bouts, *prints)
    assert (first, later) == (False, [True, True])
    together = bouts.match(prints[0], "icu", "4711", 200.0)
    assert together is not None
    assert together.likeness >= 0.7


@pytest.mark.parametrize(
    ("door", "person", "now_s"), [("ward", "4711", 200.0), ("icu", "12", 200.0), ("icu", "4711", 601.0)]
)
def test_another_door_another_person_and_ten_minutes_later_begin_anew(
    bouts: Bouts, door: str, person: str, now_s: float
) -> None:
    prints = [noisy(1, number) for number in range(4)]
    tried(bouts, *prints[:3])
    assert bouts.match(prints[3], door, person, now_s) is None


def test_who_was_let_in_and_who_was_not_named_leave_nothing_behind(bouts: Bouts) -> None:
    prints = [noisy(1, number) for number in range(4)]
    tried(bouts, *prints[:3])
    bouts.note("GRANTED", prints[3], "icu", "4711", 190.0)
    assert len(bouts) == 0
    tried(bouts, *prints[:3], person="")
    assert len(bouts) == 0
    bouts.note("DENIED_EXPIRED", prints[3], "icu", "4711", 200.0)
    assert len(bouts) == 0


def test_whose_badge_was_tried_by_an_attacker_a_minute_ago_is_not_taken_for_one(bouts: Bouts) -> None:
    assert tried(bouts, *(values(1) for _ in range(4))) == [True] * 4
    flagged = [bouts.match(noisy(seed, 1), "icu", "4711", 250.0) is not None for seed in range(50, 250)]
    assert sum(flagged) <= 2
    assert bouts.match(values(1), "icu", "4711", 250.0) is not None


def test_nothing_that_is_remembered_names_the_person_or_the_door(bouts: Bouts) -> None:
    tried(bouts, values(1), values(2), person="KAUFMANN-209317", door="pharmacy-7")
    assert len(bouts) == 1
    kept = str(vars(bouts))
    assert "KAUFMANN" not in kept
    assert "pharmacy-7" not in kept


def test_few_bouts_are_remembered_and_the_oldest_goes(bouts: Bouts) -> None:
    for number in range(MOST_BOUTS + 9):
        tried(bouts, noisy(1, number), person=str(number))
    assert len(bouts) == MOST_BOUTS


# -- What is left.


@pytest.fixture
def box(tmp_path: Path, known: KnownAttacks) -> PrintBox:
    return PrintBox(tmp_path / "prints", UNIT, known)


def left(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "prints").glob("*.print"))


def test_nothing_is_left_before_a_registry_has_said_for_whom(tmp_path: Path, box: PrintBox) -> None:
    box.leave(5, "DENIED_SPOOF", values(1))
    assert left(tmp_path) == []


def test_a_failed_attempt_leaves_a_print_that_the_tenant_alone_can_read(
    tmp_path: Path, box: PrintBox, known: KnownAttacks
) -> None:
    known.adopt(listed(1))
    box.leave(5, "DENIED_SPOOF", values(1))
    box.leave(6, "DENIED_EXPIRED", values(1))
    box.leave(0, "DENIED_SPOOF", values(1))  # the log was full: there is no event that it belongs to
    (path,) = left(tmp_path)
    assert values(1) not in path.read_bytes()
    signer, registry = FileSigner.generate(), FileSigner.generate()
    mail = PrintMail(tmp_path / "prints", UNIT, signer, registry.public_key())
    ((channel, message),) = mail.due(10.0, 1)
    assert mail.due(11.0, 1) == []
    assert len(mail.due(12.0, 2)) == 1, "again with a new connection"
    sealed = open_print(message, signer.public_key(), UNIT)
    assert (channel, sealed.sequence, sealed.opened(TENANT).values) == ("prints", 5, values(1))
    with pytest.raises(SyncError):
        mail.take("kept", signed_kept(UNIT, [sealed.name()], signer))
    assert left(tmp_path)
    mail.take("kept", signed_kept(UNIT, [sealed.name()], registry))
    assert left(tmp_path) == []


def test_granted_attempts_leave_a_few_prints_of_no_event_once_many_have_gathered(
    tmp_path: Path, box: PrintBox, known: KnownAttacks
) -> None:
    known.adopt(listed(1))
    for number in range(GATHERED - 1):
        box.leave(number + 1, "GRANTED", values(number))
    assert left(tmp_path) == []
    box.leave(99, "GRANTED", values(99))
    assert len(left(tmp_path)) == SENT_OF_GATHERED
    signer = FileSigner.generate()
    mail = PrintMail(tmp_path / "prints", UNIT, signer, signer.public_key())
    sent = [open_print(message, signer.public_key(), UNIT) for _, message in mail.due(1.0, 1)]
    assert {one.sequence for one in sent} == {0}


def test_the_folder_stays_small_when_nobody_fetches(
    tmp_path: Path, box: PrintBox, known: KnownAttacks
) -> None:
    known.adopt(listed(1))
    for number in range(MOST_LEFT + 5):
        box.leave(number + 1, "DENIED_VOICE", values(1))
    assert len(left(tmp_path)) == MOST_LEFT


def test_a_folder_that_cannot_be_written_holds_up_nobody(
    tmp_path: Path, box: PrintBox, known: KnownAttacks, caplog: pytest.LogCaptureFixture
) -> None:
    known.adopt(listed(1))
    (tmp_path / "prints").write_bytes(b"not a folder")
    box.leave(5, "DENIED_SPOOF", values(1))
    assert "was not kept" in caplog.text


def test_rubbish_in_the_folder_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "prints"
    folder.mkdir()
    (folder / "x.print").write_bytes(b"\x82\x01")
    (folder / "y.print").write_bytes(bytes(5000))
    (folder / "held").write_bytes(b"many")
    signer = FileSigner.generate()
    mail = PrintMail(folder, UNIT, signer, signer.public_key())
    assert mail.due(1.0, 1) == []
    assert (list(folder.glob("*.print")), held_list(folder), held_list(tmp_path)) == ([], 0, 0)
    with pytest.raises(SyncError):
        mail.deliver(b"no list")
    mail.deliver(listed(1))
    assert PrintBox(folder, UNIT, KnownAttacks(tmp_path, Clock())).delivered() == listed(1)


def test_a_print_is_small_and_the_same_for_the_same_statistics() -> None:
    found = np.random.default_rng(1).standard_normal(SEEN).astype(np.float32)
    assert shipped()(found) == shipped()(found)
    assert len(shipped()(found)) == VALUES
    assert any(shipped()(np.full(SEEN, np.nan, np.float32)))
