"""What a unit checks before it asks a site, and what it says of its place afterwards."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from device.commands.installed.doctor import check_place
from device.commands.installed.provision import prepared
from device.errors import DeviceError
from device.settings import Settings
from device.uplink.network import Network, Place
from device.uplink.renewal import Renewal
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.fleet.provisioning.claim import Claim
from sync.keys import FileSigner

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
CLAIM = Claim.fresh("localhost", 8444, unit_id("st-mary/icu-2"), "pharmacy", bytes(32))


def place(folder: Path, made: dt.datetime) -> Place:
    """A unit's place with a certificate that was made then."""
    authority = Authority.make_site(folder / "pki", folder / "away", "st-mary", NOW)
    leaf = authority.sign(FileSigner.generate().public_key(), "st-mary/icu-2", made)
    pem = authority.chained(leaf).decode()
    return Place("st-mary/icu-2", "pharmacy", "b:1", "c:2", pem, pem, "", "", "00")


def test_a_claim_for_another_unit_than_the_settings_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text('[door]\nunit = "st-mary/icu-9"\nname = "pharmacy"\n')
    with pytest.raises(DeviceError, match="says that this is st-mary/icu-9"):
        prepared(CLAIM, file, "device:/dev/tpmrm0")
    file.write_text('[door]\nunit = "st-mary/icu-2"\nname = "pharmacy"\n')
    assert prepared(CLAIM, file, "device:/dev/tpmrm0").door.name == "pharmacy"


def test_a_place_is_kept_whole_and_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    network = Network(tmp_path)
    assert network.place() is None
    kept = place(tmp_path, NOW)
    network.save(kept)
    assert network.place() == kept
    file = network.folder / "place.json"
    for damaged in (file.read_bytes()[:-9], b"[]", b"{}", b"x" * 200_000):
        file.write_bytes(damaged)
        with pytest.raises(DeviceError, match=r"provision the unit again|cannot be read"):
            network.place()


def test_doctor_tells_how_long_the_certificate_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    assert "not provisioned" in check_place(Settings())
    network, kept = Network(tmp_path), place(tmp_path, NOW)
    network.save(kept)
    assert "more days" in check_place(Settings())
    for made, said in ((NOW - 80 * DAY, "was not renewed"), (NOW - 100 * DAY, "ran out")):
        leaf = Authority.open(tmp_path / "pki", NOW).sign(
            FileSigner.generate().public_key(), "st-mary/icu-2", made
        )
        network.save(kept.renewed(Authority.open(tmp_path / "pki", NOW).chained(leaf)))
        with pytest.raises(DeviceError, match=said):
            check_place(Settings())


def test_a_certificate_is_renewed_in_time_and_tried_again_while_nobody_answers(tmp_path: Path) -> None:
    kept, asked = place(tmp_path, NOW), []

    def nobody(_: Place) -> Place:
        asked.append(1)
        raise DeviceError("nobody answers")

    renewal = Renewal(kept, nobody)
    assert not renewal.step(NOW, 0.0, True)
    assert not asked, "not due"
    later = NOW + 61 * DAY
    assert not renewal.step(later, 3601.0, True)
    assert not renewal.step(later, 3700.0, True)
    assert len(asked) == 1, "connected: the next look is in an hour"
    assert not renewal.step(later, 8000.0, False)
    assert not renewal.step(later, 8061.0, False)
    assert len(asked) == 3, "not connected: every minute"
    renewal.renew = lambda old: old
    assert renewal.step(later, 9000.0, False)
