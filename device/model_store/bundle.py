"""Opens a bundle of models only after every check: a model on a door is always one that somebody measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.model_store.calibration import Calibration
from device.model_store.manifest import MAX_MANIFEST_BYTES, BundleError, Entry, Manifest
from sync.plain_file import open_plain
from sync.plain_words import why

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
SIGNATURE_BYTES = 64
SIGNATURE_CONTEXT = b"ostiary model bundle v1\0"
"""Prefixed to what is signed, so that a signature made for anything else never fits a bundle."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Trust:
    """What a unit demands of a bundle. No key: only for a bundle built on this very machine."""

    key: Ed25519PublicKey | None = None
    lowest_version: int = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified set of models in a directory. Made by `Bundle.open` only."""

    directory: Path
    manifest: Manifest
    manifest_bytes: bytes = b""
    """Exactly what was read and, with a key, what was signed."""

    @classmethod
    def open(cls, directory: Path, trust: Trust | None = None) -> Bundle:
        """The bundle in `directory`, after every check; raises BundleError with one clear line.

        1. The manifest is read within its limit. 2. The signature, when the unit has a key, covers exactly
        those bytes. 3. The manifest is well formed. 4. Its version is not below the last accepted one. 5.
        This software is new enough for it. 6. Every file is a plain file of the stated size and SHA-256.
        """
        demanded = trust if trust is not None else Trust()
        raw = read_limited(directory / MANIFEST_NAME, MAX_MANIFEST_BYTES)  # 1
        if demanded.key is not None:
            check_signature(directory, raw, demanded.key)  # 2
        manifest = Manifest.from_bytes(raw)  # 3
        if manifest.version < demanded.lowest_version:  # 4
            raise BundleError(
                f"bundle version {manifest.version} is below the accepted {demanded.lowest_version}; refused"
            )
        _check_device(manifest.minimum_device)  # 5
        for entry in manifest.files:  # 6
            _check_file(directory / entry.name, entry)
        return cls(directory, manifest, raw)

    def path(self, role: str) -> Path:
        """The verified file of `role`; raises BundleError when the bundle has none."""
        return self.directory / self.manifest.entry(role).name

    def read(self, role: str) -> bytes:
        """The file of `role`, checked once more as it is read. Raises BundleError."""
        entry = self.manifest.entry(role)
        data = read_limited(self.directory / entry.name, entry.size_bytes)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _another_file(entry.name)
        return data

    def version(self, role: str) -> str:
        """Network and weights of `role`, as evidence names them."""
        return self.manifest.entry(role).version

    def calibration(self, role: str) -> Calibration:
        """From the raw score of `role` to its LLR; raises BundleError when the bundle states none."""
        calibration = self.manifest.entry(role).calibration
        if calibration is None:
            raise BundleError(f"the bundle states no calibration for {role}; run `ostiary models build`")
        return calibration


def check_signature(directory: Path, manifest: bytes, key: Ed25519PublicKey) -> None:
    """Returns when `directory` holds a signature of `manifest` by `key`; raises BundleError otherwise."""
    signature = read_limited(directory / SIGNATURE_NAME, SIGNATURE_BYTES)
    try:
        key.verify(signature, SIGNATURE_CONTEXT + manifest)
    except InvalidSignature as err:
        raise BundleError("the bundle is not signed by the key this unit trusts; refused") from err


def _check_device(minimum: str) -> None:
    try:
        ours = installed_version("ostiary")
    except PackageNotFoundError as err:
        raise BundleError("ostiary is not installed, so its version is unknown; run scripts/setup") from err
    if _numbers(ours) < _numbers(minimum):
        raise BundleError(f"the bundle needs ostiary {minimum} or later, this is {ours}; update the unit")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in release.split(".")[:3])


def _check_file(path: Path, entry: Entry) -> None:
    """Counts and hashes the bytes themselves, whatever the file system says about them."""
    digest, count = hashlib.sha256(), 0
    with open_within(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            count += len(chunk)
            if count > entry.size_bytes:
                raise BundleError(f"{path.name} is longer than the manifest says; refused")
            digest.update(chunk)
    if count < entry.size_bytes:
        raise BundleError(f"{path.name} is cut short ({count} of {entry.size_bytes} bytes); refused")
    if digest.hexdigest() != entry.sha256:
        raise _another_file(path.name)


def _another_file(name: str) -> BundleError:
    return BundleError(f"{name} is not the file in the manifest (SHA-256 differs); refused")


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """The whole of a plain file that must not be larger; raises BundleError."""
    with open_within(path) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BundleError(f"{path.name} is larger than {limit_bytes} bytes; refused")
    return data


def open_within(path: Path) -> BinaryIO:
    """A plain file of a bundle, opened for reading; raises BundleError for anything else, and for a link."""
    try:
        return open_plain(path, links=False)  # a link would lead out of the bundle
    except FileNotFoundError as err:
        raise BundleError(f"{path.name} is missing from {path.parent}; run `ostiary models build`") from err
    except OSError as err:
        raise BundleError(f"{path.name} cannot be read ({why(err)}); refused") from err
