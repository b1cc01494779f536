"""What a unit does with a list of threats, and what it leaves for the registry: nothing before it has one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.errors import DeviceError
from device.liveness.threats.known import KnownAttacks
from device.liveness.threats.print_box import GATHERED, MOST_LEFT, SENT_OF_GATHERED, PrintBox
from device.models.spoof.prints import SEEN, shipped
from device.uplink.letters.prints import PrintMail, held_list
from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.registry.campaigns.grouping import as_values
from sync.threats.listed import Threat, ThreatList
from sync.threats.prints import MODEL, VALUES, open_print, signed_kept

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
