"""A bundle opens only when every byte of it is what somebody measured and signed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME, Bundle, Trust
from device.model_store.manifest import MAX_MANIFEST_BYTES, BundleError
from tests.device.model_store.bundles import CONTENT, edit_manifest, make_bundle, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUST = Trust(KEY.public_key())


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", version=3, key=KEY)


def refused(directory: Path, why: str, trust: Trust = TRUST) -> None:
    with pytest.raises(BundleError, match=why) as caught:
        Bundle.open(directory, trust)
    assert "\n" not in str(caught.value)


def test_a_signed_bundle_opens_and_gives_paths_versions_and_calibrations(signed: Path) -> None:
    bundle = Bundle.open(signed, TRUST)
    assert bundle.manifest.version == 3
    assert bundle.path("speaker").read_bytes() == CONTENT["speaker"] + b"3"
    assert bundle.version("words") == "words-1"
    assert bundle.calibration("speaker").llr(1.0) == pytest.approx(1.0)


def test_a_bundle_built_here_needs_no_signature(tmp_path: Path) -> None:
    assert Bundle.open(make_bundle(tmp_path / "bundle")).manifest.version == 1


def test_a_role_that_is_not_there_and_a_missing_calibration_are_named(signed: Path) -> None:
    bundle = Bundle.open(signed, TRUST)
    with pytest.raises(BundleError, match="no spoof model"):
        bundle.path("spoof")
    with pytest.raises(BundleError, match="no calibration for words"):
        bundle.calibration("words")


def test_a_changed_byte_in_a_model_is_refused(signed: Path) -> None:
    data = bytearray((signed / "speaker.bin").read_bytes())
    data[7] ^= 1
    (signed / "speaker.bin").write_bytes(data)
    refused(signed, "speaker.bin is not the file in the manifest")


def test_a_truncated_model_is_refused(signed: Path) -> None:
    (signed / "words.bin").write_bytes((signed / "words.bin").read_bytes()[:-1])
    refused(signed, "words.bin is cut short")


def test_a_model_longer_than_stated_is_refused(signed: Path) -> None:
    with (signed / "words.bin").open("ab") as stream:
        stream.write(b"x")
    refused(signed, "words.bin is longer")


def test_a_missing_model_is_refused(signed: Path) -> None:
    (signed / "words.bin").unlink()
    refused(signed, "words.bin is missing")


def test_a_manifest_changed_after_signing_is_refused(signed: Path) -> None:
    edit_manifest(signed, lambda document: document.update(version=99))
    refused(signed, "not signed by the key")


def test_a_bundle_signed_by_somebody_else_is_refused(signed: Path) -> None:
    sign(signed, Ed25519PrivateKey.generate())
    refused(signed, "not signed by the key")


def test_a_signature_made_for_something_else_does_not_fit_a_bundle(signed: Path) -> None:
    (signed / SIGNATURE_NAME).write_bytes(KEY.sign((signed / MANIFEST_NAME).read_bytes()))
    refused(signed, "not signed by the key")


def test_an_unsigned_bundle_is_refused_by_a_unit_that_has_a_key(signed: Path) -> None:
    (signed / SIGNATURE_NAME).unlink()
    refused(signed, "manifest.sig is missing")


def test_an_older_bundle_is_refused(signed: Path) -> None:
    refused(signed, "version 3 is below the accepted 4", Trust(KEY.public_key(), lowest_version=4))


def test_a_bundle_for_newer_software_is_refused(tmp_path: Path) -> None:
    refused(make_bundle(tmp_path / "b", key=KEY, minimum_device="99.0.0"), "needs ostiary 99.0.0 or later")


def test_an_oversized_manifest_or_signature_is_refused(signed: Path) -> None:
    (signed / SIGNATURE_NAME).write_bytes(bytes(65))
    refused(signed, "manifest.sig is larger")
    (signed / MANIFEST_NAME).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    refused(signed, "manifest.json is larger")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d["files"][0].update(name="../../etc/passwd"), "not allowed"),
        (lambda d: d["files"][0].update(name="/etc/passwd"), "not allowed"),
        (lambda d: d["files"][0].update(role="Speaker"), "not allowed"),
        (lambda d: d["files"][0].update(size_bytes=10**12), "outside"),
        (lambda d: d["files"][0].update(size_bytes=True), "outside"),
        (lambda d: d["files"][0].update(sha256="00"), "no proper SHA-256"),
        (lambda d: d["files"][0].update(calibration={"scale": -1, "offset": 0}), "damaged"),
        (lambda d: d["files"][0].update(surprise=1), "damaged"),
        (lambda d: d["files"].append(d["files"][0]), "twice"),
        (
            lambda d: d["files"].extend(dict(d["files"][0], role=f"r{i}", name=f"{i}") for i in range(40)),
            "42 files",
        ),
        (lambda d: d.update(files=[]), "0 files"),
        (lambda d: d.update(files=None), "damaged"),
        (lambda d: d.update(version=0), "whole number"),
        (lambda d: d.update(version="3"), "whole number"),
        (lambda d: d.update(format=2), "does not know"),
        (lambda d: d.update(minimum_device="new"), "must look like"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    signed: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    edit_manifest(signed, change)
    sign(signed, KEY)
    refused(signed, why)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"[" * 60_000, b'{"format": 1}', b"\xff\xfe", b"NaN"]
)
def test_a_manifest_that_is_no_manifest_is_refused(signed: Path, data: bytes) -> None:
    (signed / MANIFEST_NAME).write_bytes(data)
    sign(signed, KEY)
    refused(signed, "manifest.json is damaged")


def test_links_folders_and_pipes_in_place_of_a_model_are_refused(signed: Path) -> None:
    model = signed / "speaker.bin"
    kept = model.rename(signed / "elsewhere")
    model.symlink_to(kept)
    refused(signed, "speaker.bin cannot be read")
    model.unlink()
    model.mkdir()
    refused(signed, "speaker.bin cannot be read .it is a folder")
    model.rmdir()
    os.mkfifo(model)
    refused(signed, "speaker.bin cannot be read .it is a named pipe")


def test_the_same_manifest_is_always_the_same_bytes(signed: Path) -> None:
    manifest = Bundle.open(signed, TRUST).manifest
    assert manifest.to_bytes() == (signed / MANIFEST_NAME).read_bytes()
    assert json.loads(manifest.to_bytes())["format"] == 1
