"""Accepting a bundle: never half of one, never an older one, and always something to fall back on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.model_store import slots
from device.model_store.bundle import MANIFEST_NAME, Bundle
from device.model_store.manifest import BundleError
from tests.device.model_store.bundles import edit_manifest, make_bundle, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def candidate(tmp_path: Path, version: int, key: Ed25519PrivateKey = KEY) -> Path:
    return make_bundle(tmp_path / f"candidate-{version}", version=version, key=key)


def break_current(models: Path) -> None:
    state = slots.read_slots(models)
    assert state is not None
    (models / slots.BUNDLES_NAME / state.current / "speaker.bin").write_bytes(b"broken")


def test_a_unit_without_a_slots_file_opens_what_was_built_on_it(tmp_path: Path) -> None:
    assert slots.active(make_bundle(tmp_path / "built")).manifest.version == 1


def test_an_accepted_bundle_is_what_the_unit_works_with(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 2), PUBLIC)
    assert slots.active(models).manifest.version == 2


def test_the_first_bundle_needs_a_key_and_the_key_is_remembered(tmp_path: Path, models: Path) -> None:
    with pytest.raises(BundleError, match="trusts no key yet"):
        slots.use(models, candidate(tmp_path, 1))
    slots.use(models, tmp_path / "candidate-1", PUBLIC)
    slots.use(models, candidate(tmp_path, 2))
    other = Ed25519PrivateKey.generate()
    with pytest.raises(BundleError, match="already trusts another key"):
        slots.use(models, candidate(tmp_path, 3, other), other.public_key())
    with pytest.raises(BundleError, match="not signed by the key"):
        slots.use(models, tmp_path / "candidate-3")
    assert slots.active(models).manifest.version == 2


def test_an_older_bundle_is_refused_and_the_unit_keeps_working(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 5), PUBLIC)
    with pytest.raises(BundleError, match="below the accepted 5"):
        slots.use(models, candidate(tmp_path, 4))
    assert slots.active(models).manifest.version == 5


@pytest.mark.parametrize("damage", ["tampered", "truncated", "oversized", "re-signed", "manifest"])
def test_a_bad_candidate_changes_nothing(tmp_path: Path, models: Path, damage: str) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    before = (models / slots.SLOTS_NAME).read_bytes()
    bad = candidate(tmp_path, 2)
    model = bad / "speaker.bin"
    if damage == "tampered":
        model.write_bytes(model.read_bytes().replace(b"speaker", b"spaeker", 1))
    elif damage == "truncated":
        model.write_bytes(model.read_bytes()[:-5])
    elif damage == "oversized":
        model.write_bytes(model.read_bytes() * 1000)
    elif damage == "re-signed":
        sign(bad, Ed25519PrivateKey.generate())
    else:
        edit_manifest(bad, lambda document: document.update(minimum_device="0.0.1"))
    with pytest.raises(BundleError) as caught:
        slots.use(models, bad)
    assert "\n" not in str(caught.value)
    assert (models / slots.SLOTS_NAME).read_bytes() == before
    assert slots.active(models).manifest.version == 1
    assert not list((models / slots.BUNDLES_NAME).glob(".partial-*"))


def test_a_broken_bundle_falls_back_to_the_last_good_one_and_says_so(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    slots.use(models, candidate(tmp_path, 2))
    break_current(models)
    told: list[str] = []
    assert slots.active(models, told.append).manifest.version == 1
    assert len(told) == 1
    assert "last good bundle, version 1" in told[0]


def test_without_a_good_bundle_left_the_door_gets_none(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    break_current(models)
    with pytest.raises(BundleError, match="cut short"):
        slots.active(models)


def test_a_broken_bundle_never_becomes_the_one_to_fall_back_on(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    slots.use(models, candidate(tmp_path, 2))
    break_current(models)
    slots.use(models, candidate(tmp_path, 3))
    break_current(models)
    assert slots.active(models).manifest.version == 1


def test_using_the_same_bundle_again_mends_it(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    break_current(models)
    slots.use(models, tmp_path / "candidate-1")
    assert slots.active(models).manifest.version == 1


def test_another_signed_bundle_put_in_place_of_the_accepted_one_is_refused(
    tmp_path: Path, models: Path
) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    state = slots.read_slots(models)
    assert state is not None
    home = models / slots.BUNDLES_NAME / state.current
    for file in candidate(tmp_path, 7).iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BundleError, match="not the one that was accepted"):
        slots.active(models)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"key": "00"}', "null", "[" * 4000, "x" * 5000])
def test_a_damaged_slots_file_is_refused_and_never_taken_for_a_new_unit(
    tmp_path: Path, models: Path, content: str
) -> None:
    make_bundle(models)
    (models / slots.SLOTS_NAME).write_text(content)
    with pytest.raises(BundleError, match=slots.SLOTS_NAME):
        slots.active(models)
    with pytest.raises(BundleError, match=slots.SLOTS_NAME):
        slots.use(models, candidate(tmp_path, 1), PUBLIC)


def test_a_bundle_replaced_while_it_opens_is_opened_again(tmp_path: Path, models: Path) -> None:
    """Every opening but the last finds its files gone, as when bundles come faster than they load."""
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    later = [candidate(tmp_path, version) for version in range(2, 8)]

    def read(bundle: Bundle) -> bytes:
        # Two new bundles clear the one that is being opened: the slots keep the current and the one before.
        for _ in range(min(2, len(later))):
            slots.use(models, later.pop(0))
        return bundle.path("speaker").read_bytes()

    assert slots.steadily(models, read).endswith(b"7")


def test_a_built_bundle_replaced_while_it_opens_is_opened_again(tmp_path: Path) -> None:
    models = make_bundle(tmp_path / "models")
    newer = make_bundle(tmp_path / "newer", version=2)
    calls: list[int] = []

    def read(bundle: Bundle) -> int:
        calls.append(bundle.manifest.version)
        if len(calls) == 1:
            shutil.copytree(newer, models, dirs_exist_ok=True)
            raise FileNotFoundError("pruned")
        return bundle.manifest.version

    assert slots.steadily(models, read) == 2
    assert calls == [1, 2]


def test_what_fails_without_a_replacement_fails_at_once_and_in_one_line(models: Path, tmp_path: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    calls: list[int] = []

    def read(bundle: Bundle) -> bytes:
        calls.append(bundle.manifest.version)
        return (bundle.directory / "missing").read_bytes()

    with pytest.raises(BundleError, match="cannot be opened"):
        slots.steadily(models, read)
    assert calls == [1]


def test_a_bundle_that_never_holds_still_is_given_up(tmp_path: Path, models: Path) -> None:
    slots.use(models, candidate(tmp_path, 1), PUBLIC)
    versions = iter(range(2, 100))

    def read(bundle: Bundle) -> bytes:
        slots.use(models, candidate(tmp_path, next(versions)))
        raise BundleError("gone")

    with pytest.raises(BundleError, match="gone"):
        slots.steadily(models, read)


# Dies, as a power cut would, at the n-th call that changes the disk.
DIE_AT = """
import os, shutil, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from device.model_store import slots

left = int(sys.argv[3])

def mortal(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(77)
        return real(*args, **kwargs)
    return call

for name in ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir"):
    setattr(os, name, mortal(getattr(os, name)))
slots.use(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_crash_anywhere_in_use_leaves_a_working_unit(tmp_path: Path) -> None:
    new = candidate(tmp_path, 2)
    old = candidate(tmp_path, 1)
    seen = set()
    for step in range(60):
        models = tmp_path / f"unit-{step}"
        slots.use(models, old, PUBLIC)
        command = [sys.executable, "-c", DIE_AT, str(models), str(new), str(step)]
        code = subprocess.run(command, env=os.environ, check=False).returncode
        assert code in (0, 77)
        seen.add(slots.active(models).manifest.version)
        slots.use(models, new)
        assert slots.active(models).manifest.version == 2
        assert not list((models / slots.BUNDLES_NAME).glob(".partial-*"))
        if code == 0:
            break
    assert code == 0
    assert seen == {1, 2}


def test_the_slots_file_names_the_manifest_by_its_hash(tmp_path: Path, models: Path) -> None:
    bundle = slots.use(models, candidate(tmp_path, 1), PUBLIC)
    state = json.loads((models / slots.SLOTS_NAME).read_bytes())
    assert bundle.directory.name == state["current"]
    assert (bundle.directory / MANIFEST_NAME).is_file()
