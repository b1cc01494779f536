"""Makes bundles, good ones and every kind of bad one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_CONTEXT, SIGNATURE_NAME
from device.model_store.calibration import Calibration
from device.model_store.manifest import Entry, Manifest

CONTENT = {"speaker": b"a speaker network" * 100, "words": b"a words network" * 200}


def make_bundle(
    directory: Path, *, version: int = 1, key: Ed25519PrivateKey | None = None, minimum_device: str = "0.1.0"
) -> Path:
    """A bundle of two small files in `directory`, signed by `key` when there is one."""
    directory.mkdir(parents=True)
    entries = []
    for role, content in CONTENT.items():
        data = content + str(version).encode()
        (directory / f"{role}.bin").write_bytes(data)
        entries.append(entry(role, data))
    manifest = Manifest(version, minimum_device, tuple(entries))
    (directory / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    if key is not None:
        sign(directory, key)
    return directory


def entry(role: str, data: bytes) -> Entry:
    return Entry(
        role=role,
        name=f"{role}.bin",
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        version=f"{role}-1",
        task="a test",
        licence="Apache-2.0",
        calibration=Calibration(2.0, -1.0) if role == "speaker" else None,
    )


def sign(directory: Path, key: Ed25519PrivateKey) -> None:
    manifest = (directory / MANIFEST_NAME).read_bytes()
    (directory / SIGNATURE_NAME).write_bytes(key.sign(SIGNATURE_CONTEXT + manifest))


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter the manifest's JSON in place; whatever signed it does not sign it any more."""
    path = directory / MANIFEST_NAME
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
