"""A bundle as one file: the same as the folder it was made from, and harmless when somebody else made it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.model_store import slots
from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME
from device.model_store.manifest import BundleError
from device.model_store.packed import pack, unpacked
from quantize.cli import models as command
from tests.device.model_store.bundles import edit_manifest, make_bundle

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", version=3, key=KEY)


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for header, data in members:
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def member(name: str, **more: object) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    for field, value in more.items():
        setattr(header, field, value)
    return header


def content(folder: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    names = [MANIFEST_NAME, SIGNATURE_NAME, "speaker.bin", "words.bin"]
    return [(member(name), (folder / name).read_bytes()) for name in names]


def test_a_unit_takes_a_packed_bundle_as_it_takes_a_folder(signed: Path, tmp_path: Path) -> None:
    key = tmp_path / "release.pub.pem"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    packed, unit = tmp_path / "models.tar", tmp_path / "unit"
    for arguments in (
        ["pack", "--dir", str(signed), "-o", str(packed)],
        ["use", str(packed), "--dir", str(unit), "--key", str(key)],
    ):
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    bundle = slots.active(unit)
    assert bundle.manifest.version == 3
    assert bundle.path("speaker").read_bytes() == (signed / "speaker.bin").read_bytes()


def test_the_same_bundle_is_always_the_same_bytes(signed: Path, tmp_path: Path) -> None:
    pack(signed, tmp_path / "a.tar")
    (signed / "speaker.bin").touch()
    pack(signed, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_bundle_that_nobody_signed_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not signed"):
        pack(make_bundle(tmp_path / "built"), tmp_path / "models.tar")
    assert not list(tmp_path.glob("models.tar*"))


@pytest.mark.parametrize(
    "bad",
    ["../escape", "a link", "a hole", "too long", "out of order", "an extension", "cut short", "no archive"],
)
def test_a_hostile_archive_is_refused_in_one_line_and_writes_nothing_elsewhere(
    signed: Path, tmp_path: Path, bad: str
) -> None:
    path, members = tmp_path / "in" / "models.tar", content(signed)
    path.parent.mkdir()
    if bad == "../escape":
        members[2] = (member("../escape"), members[2][1])
    elif bad == "a link":
        members[2] = (member("speaker.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")
    elif bad == "a hole":
        members[2] = (member("speaker.bin", type=tarfile.GNUTYPE_SPARSE), members[2][1])
    elif bad == "too long":
        members[2] = (member("speaker.bin"), members[2][1] + b"x")
    elif bad == "out of order":
        members[0], members[2] = members[2], members[0]
    elif bad == "an extension":
        members[0] = (member(MANIFEST_NAME, pax_headers={"comment": "x" * 2000}), members[0][1])
    archive(path, members)
    if bad == "cut short":
        path.write_bytes(path.read_bytes()[:2048])
    elif bad == "no archive":
        path.write_bytes(b"PK\x03\x04" * 1000)
    with pytest.raises(BundleError) as refusal, unpacked(path):
        pytest.fail("it was unpacked")
    assert "\n" not in str(refusal.value)
    assert [item.name for item in path.parent.iterdir()] == ["models.tar"]


@pytest.mark.parametrize("name", [MANIFEST_NAME, SIGNATURE_NAME])
def test_a_bundle_whose_manifest_names_itself_is_refused_in_one_line(
    signed: Path, tmp_path: Path, name: str
) -> None:
    edit_manifest(signed, lambda manifest: manifest["files"][0].update(name=name))
    packed = archive(tmp_path / "models.tar", content(signed))
    with pytest.raises(BundleError, match="names its own manifest"), unpacked(packed):
        pass


def test_what_was_altered_inside_a_packed_bundle_is_refused_when_it_is_used(
    signed: Path, tmp_path: Path
) -> None:
    members = content(signed)
    members[2] = (members[2][0], members[2][1].replace(b"speaker", b"spaeker", 1))
    path = archive(tmp_path / "models.tar", members)
    with unpacked(path) as folder, pytest.raises(BundleError, match="SHA-256 differs"):
        slots.use(tmp_path / "unit", folder, KEY.public_key())
