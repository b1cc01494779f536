"""How far a unit has come with its models, kept by its store: no older slots file or disk brings it back."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device.commands.installed import doctor
from device.model_store import slots
from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME, Bundle
from device.model_store.manifest import BundleError
from device.model_store.minimum_versions import MinimumVersions, pinned_minimum, raise_minimum
from device.secure_store import Store, StoreSettings, open_store
from device.secure_store.errors import RollbackError, StoreError
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.head import MAX_PINNED_BYTES, Head
from device.secure_store.voiceprints.records import DIGEST_BYTES
from device.secure_store.voiceprints.vault_file import VaultFile
from device.settings import Settings
from device.unit.assembly import open_judge
from quantize.cli import models as models_command
from tests.device.model_store.bundles import make_bundle

LAPTOP = StoreSettings(profile="laptop", keystore="software")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
KEY_HEX = PUBLIC.public_bytes_raw().hex()


class Disk:
    """A unit's disk: its store, its models, and bundles that a release server would offer."""

    def __init__(self, folder: Path, settings: StoreSettings = LAPTOP) -> None:
        self.folder = folder
        self.models = folder / "models"
        self._settings = settings

    def store(self) -> Store:
        return open_store(self.folder / "state", self._settings, warn=lambda _: None)

    def offered(self, version: int, key: Ed25519PrivateKey = KEY) -> Path:
        place = self.folder.parent / f"offered-{version}-{key.public_key().public_bytes_raw().hex()[:8]}"
        return place if place.exists() else make_bundle(place, version=version, key=key)

    def use(self, version: int, key: Ed25519PublicKey | None = PUBLIC) -> None:
        """As `ostiary models use` does."""
        with self.store() as store:
            slots.use(self.models, self.offered(version), key, pinned_minimum(store.vault))
            raise_minimum(store.vault, slots.reached(self.models))

    def start(self, notify: Callable[[str], None] = lambda text: None) -> Bundle:
        """As a start of the unit does."""
        with self.store() as store:
            bundle = slots.active(self.models, notify, pinned_minimum(store.vault))
            raise_minimum(store.vault, slots.reached(self.models))
        return bundle

    def minimum(self) -> MinimumVersions | None:
        with self.store() as store:
            return pinned_minimum(store.vault)

    def alter_slots(self, **fields: Any) -> None:
        path = self.models / slots.SLOTS_NAME
        path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


def test_an_older_slots_file_put_back_with_its_bundle_is_refused_in_one_line(
    disk: Disk, tmp_path: Path
) -> None:
    disk.use(1)
    shutil.copytree(disk.models, tmp_path / "old")
    disk.use(2)
    shutil.rmtree(disk.models)
    shutil.copytree(tmp_path / "old", disk.models)
    with pytest.raises(
        BundleError, match="version 1 is below 2, which this unit's store remembers"
    ) as caught:
        disk.start()
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="below"):
        disk.use(1)
    disk.use(2)
    assert disk.start().manifest.version == 2


def test_a_slots_file_written_by_hand_does_not_bring_an_old_bundle_back(disk: Disk) -> None:
    disk.use(1)
    old = json.loads((disk.models / slots.SLOTS_NAME).read_bytes())["current"]
    disk.use(2)
    disk.use(3)
    shutil.copytree(disk.offered(1), disk.models / slots.BUNDLES_NAME / old)
    for fields in ({"current": old}, {"current": "0" * 64, "previous": old}):
        disk.alter_slots(**fields, accepted_version=9)
        with pytest.raises(BundleError, match="version 1 is below"):
            disk.start()


def test_without_its_slots_file_a_unit_takes_no_bundle_for_one_built_here(disk: Disk) -> None:
    disk.use(1)
    shutil.rmtree(disk.models)
    make_bundle(disk.models, version=9)
    with pytest.raises(BundleError, match=f"{slots.SLOTS_NAME} is gone"):
        disk.start()


def test_another_key_does_not_take_over_by_way_of_the_slots_file(disk: Disk, tmp_path: Path) -> None:
    disk.use(1)
    strange = Ed25519PrivateKey.generate()
    shutil.rmtree(disk.models)
    slots.use(disk.models, disk.offered(7, strange), strange.public_key())
    with pytest.raises(BundleError, match="another key"):
        disk.start()
    with disk.store() as store, pytest.raises(BundleError, match="another key"):
        slots.use(disk.models, disk.offered(8, strange), strange.public_key(), pinned_minimum(store.vault))
    disk.use(1)
    assert disk.start().manifest.version == 1


def test_the_last_good_bundle_still_helps_out(disk: Disk) -> None:
    disk.use(1)
    disk.use(2)
    current = json.loads((disk.models / slots.SLOTS_NAME).read_bytes())["current"]
    (disk.models / slots.BUNDLES_NAME / current / "words.bin").write_bytes(b"broken")
    told: list[str] = []
    assert disk.start(told.append).manifest.version == 1
    assert "last good bundle, version 1" in told[0]
    assert disk.minimum() == MinimumVersions(KEY_HEX, 2, 1)


def test_a_unit_without_a_signed_bundle_has_no_minimum(disk: Disk) -> None:
    make_bundle(disk.models, version=3)
    assert disk.start().manifest.version == 3
    assert disk.minimum() is None


def test_a_unit_that_had_slots_before_it_had_a_minimum_gets_one_at_its_next_start(disk: Disk) -> None:
    slots.use(disk.models, disk.offered(1), PUBLIC)
    slots.use(disk.models, disk.offered(2))
    disk.start()
    assert disk.minimum() == MinimumVersions(KEY_HEX, 2, 1)


def test_a_minimum_never_falls(disk: Disk) -> None:
    high, low = MinimumVersions(KEY_HEX, 5, 4), MinimumVersions(KEY_HEX, 3, 2)
    with disk.store() as store:
        for minimum in (high, low, None):
            assert raise_minimum(store.vault, minimum) == high
    with disk.store() as store:
        assert pinned_minimum(store.vault) == high


def test_a_minimum_of_a_form_that_is_not_known_is_refused(disk: Disk) -> None:
    for data in (b"{}", b"x", b'{"models": {"key": "a", "version": "?", "fallback": 1}}', b"[1]"):
        with disk.store() as store:
            store.vault.pin(data)
            with pytest.raises(BundleError, match="a form this release does not know"):
                pinned_minimum(store.vault)


@pytest.mark.parametrize("size", [0, MAX_PINNED_BYTES + 1])
def test_only_a_little_can_be_pinned(disk: Disk, size: int) -> None:
    with disk.store() as store, pytest.raises(StoreError, match="can be pinned"):
        store.vault.pin(b"x" * size)


def test_a_head_without_pins_is_written_as_before_and_one_with_pins_comes_back_whole() -> None:
    roster = {uuid.uuid4(): bytes(DIGEST_BYTES), uuid.uuid4(): bytes(range(DIGEST_BYTES))}
    with SecretBytes.random(32) as key:
        plain = Head(uuid.uuid4(), 7, 2, roster)
        assert plain.to_bytes(key).startswith(b"OSTVLT01")
        for head in (
            plain,
            Head(plain.unit, 8, 2, roster, b"pinned"),
            Head(plain.unit, 9, 2, {}, b"x" * 256),
        ):
            data = head.to_bytes(key)
            assert Head.from_bytes(data, key) == head
            for cut in range(1, len(data) - 32, 7):
                with pytest.raises(ValueError, match="does not verify"):
                    Head.from_bytes(data[:cut] + data[cut + 1 :], key)


def test_what_is_pinned_survives_every_other_change_of_the_vault(disk: Disk) -> None:
    disk.use(4)
    with disk.store() as store:
        store.vault.rotate()
    assert disk.minimum() == MinimumVersions(KEY_HEX, 4, 4)


def test_the_command_raises_the_minimum_and_the_door_opens_nothing_below(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "ostiary.toml"
    config.write_text('[store]\nprofile = "laptop"\nkeystore = "software"\n')
    monkeypatch.setenv("OSTIARY_CONFIG", str(config))
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(disk.folder / "state"))
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(disk.models))
    pem = tmp_path / "release.pub.pem"
    pem.write_bytes(
        PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    disk.store().close()
    used = CliRunner().invoke(models_command, ["use", str(disk.offered(2)), "--key", str(pem)])
    assert used.exit_code == 0, used.output
    minimum = disk.minimum()
    assert minimum == MinimumVersions(KEY_HEX, 2, 2)
    finding = next(f for f in doctor.examine() if f.what == "oldest models")
    assert finding.well
    assert "bundle 2" in finding.detail
    assert "no TPM holds it" in finding.detail
    shutil.rmtree(disk.models)
    slots.use(disk.models, disk.offered(1), PUBLIC)
    with pytest.raises(BundleError, match="below 2"), open_judge(disk.models, Settings(), minimum):
        pass
    finding = next(f for f in doctor.examine() if f.what == "oldest models")
    assert not finding.well
    assert "below 2" in finding.detail


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[SwTpm]:
    with SwTpm(tmp_path / "swtpm") as tpm:
        yield tpm


def test_an_old_disk_put_back_beside_its_tpm_is_refused_in_one_line(swtpm: SwTpm, tmp_path: Path) -> None:
    """Between the copy and now only a bundle was accepted: that alone makes the copy an old one."""
    disk = Disk(tmp_path / "disk", swtpm.settings())
    disk.use(1)
    assert disk.start().manifest.version == 1
    shutil.copytree(disk.folder, tmp_path / "image")
    disk.use(2)
    newest = tmp_path / "newest"
    disk.folder.rename(newest)
    shutil.copytree(tmp_path / "image", disk.folder)
    swtpm.reboot()
    with pytest.raises(RollbackError, match="older than the keystore's counter") as caught:
        disk.start()
    assert "\n" not in str(caught.value)
    # The newest store with the old models: as one who can write that folder alone would have it.
    shutil.rmtree(disk.folder / "state")
    shutil.copytree(newest / "state", disk.folder / "state")
    with pytest.raises(BundleError, match="version 1 is below 2"):
        disk.start()
    disk.use(2)
    assert disk.start().manifest.version == 2


def test_a_store_made_anew_after_its_tpm_was_cleared_accepts_its_first_bundle_again(tmp_path: Path) -> None:
    with SwTpm(tmp_path / "first") as tpm:
        disk = Disk(tmp_path / "disk", tpm.settings())
        disk.use(5)
    with SwTpm(tmp_path / "cleared") as tpm:
        disk = Disk(tmp_path / "disk", tpm.settings())
        with pytest.raises(StoreError):
            disk.start()
        shutil.rmtree(disk.folder / "state")  # `ostiary store init --replace`
        assert disk.start().manifest.version == 5
        assert disk.minimum() == MinimumVersions(KEY_HEX, 5, 5)


def dies_at(step: int, work: Callable[[], None]) -> bool:
    """Whether `work` came to its end in a process that is killed at its n-th call that changes the disk."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = step

    def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(77)
            return real(*args, **kwargs)

        return call

    try:
        for name in ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir"):
            setattr(os, name, mortal(getattr(os, name)))
        VaultFile.commit = mortal(VaultFile.commit)  # type: ignore[method-assign]
        work()
        os._exit(0)
    finally:
        os._exit(78)


@pytest.mark.slow
def test_a_crash_anywhere_between_slots_file_and_store_locks_nobody_out_and_lowers_nothing(
    tmp_path: Path,
) -> None:
    seen = set()
    for step in range(200):
        disk = Disk(tmp_path / f"disk-{step}")
        disk.use(1)
        done = dies_at(step, lambda: disk.use(2, None))  # noqa: B023 - called before the next turn
        before = disk.minimum()
        assert before is not None
        started = disk.start().manifest.version
        after = disk.minimum()
        seen.add((started, before.version))
        assert before.version <= started
        assert after == MinimumVersions(KEY_HEX, started, 1)
        disk.use(2)
        assert disk.minimum() == MinimumVersions(KEY_HEX, 2, 1)
        assert disk.start().manifest.version == 2
        shutil.rmtree(disk.folder)
        if done:
            break
    assert done
    assert seen == {(1, 1), (2, 1), (2, 2)}


def test_the_slots_file_is_reached_by_what_was_signed_and_not_by_what_it_says(disk: Disk) -> None:
    disk.use(2)
    disk.alter_slots(accepted_version=99)
    assert slots.reached(disk.models) == MinimumVersions(KEY_HEX, 2, 2)
    current = json.loads((disk.models / slots.SLOTS_NAME).read_bytes())["current"]
    (disk.models / slots.BUNDLES_NAME / current / MANIFEST_NAME).write_bytes(b"{}")
    assert slots.reached(disk.models) is None


def test_a_newer_manifest_in_the_current_ones_place_raises_nothing(disk: Disk) -> None:
    disk.use(1)
    disk.use(2)
    current = json.loads((disk.models / slots.SLOTS_NAME).read_bytes())["current"]
    for name in (MANIFEST_NAME, SIGNATURE_NAME):
        shutil.copyfile(disk.offered(9) / name, disk.models / slots.BUNDLES_NAME / current / name)
    assert disk.start().manifest.version == 1
    assert disk.minimum() == MinimumVersions(KEY_HEX, 2, 1)


@pytest.mark.parametrize("name", [MANIFEST_NAME, SIGNATURE_NAME])
def test_the_last_good_bundle_serves_when_the_current_one_has_lost_its_proof(disk: Disk, name: str) -> None:
    disk.use(1)
    disk.use(2)
    current = json.loads((disk.models / slots.SLOTS_NAME).read_bytes())["current"]
    (disk.models / slots.BUNDLES_NAME / current / name).unlink()
    assert disk.start().manifest.version == 1
    assert disk.minimum() == MinimumVersions(KEY_HEX, 2, 1)
