"""Packs a signed bundle into one file, to be carried: a plain tar of manifest, signature and models.

`slots.use` checks the unpacked folder. Until then only its shape matters: plain files, under the manifest's
names, of the manifest's sizes, and nothing else.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from device.model_store.bundle import (
    MANIFEST_NAME,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Bundle,
    open_within,
    read_limited,
)
from device.model_store.manifest import MAX_MANIFEST_BYTES, BundleError, Manifest
from sync.durable import move_file
from sync.plain_file import open_plain, plain_bytes

_CHUNK_BYTES = 1 << 20


def pack(directory: Path, archive: Path) -> Manifest:
    """Write the signed bundle in `directory` to `archive`: the same bundle is always the same bytes.
    Raises BundleError when the bundle does not hold or nobody signed it; `archive` is then as it was."""
    bundle = Bundle.open(directory)
    if not (directory / SIGNATURE_NAME).exists():
        raise BundleError("the bundle is not signed; run `ostiary models sign --key release.pem` first")
    signature = read_limited(directory / SIGNATURE_NAME, SIGNATURE_BYTES)
    partial = archive.with_name(f"{archive.name}.part")
    with (
        partial.open("wb") as sink,
        tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(_header(MANIFEST_NAME, len(bundle.manifest_bytes)), io.BytesIO(bundle.manifest_bytes))
        tar.addfile(_header(SIGNATURE_NAME, len(signature)), io.BytesIO(signature))
        for entry in sorted(bundle.manifest.files, key=lambda entry: entry.name):
            with open_within(directory / entry.name) as stream:
                tar.addfile(_header(entry.name, entry.size_bytes), stream)
    move_file(partial, archive)
    return bundle.manifest


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A folder with what `archive` holds, gone on leaving; unchecked, but for `slots.use` to check. Raises
    BundleError when it is no such archive, before more is written than its manifest states."""
    with tempfile.TemporaryDirectory(prefix="ostiary-bundle-") as folder, open_plain(archive) as stream:
        target = Path(folder)
        raw = _taken(stream, target, MANIFEST_NAME, MAX_MANIFEST_BYTES)
        _taken(stream, target, SIGNATURE_NAME, SIGNATURE_BYTES)
        sizes = {
            entry.name: entry.size_bytes
            for entry in Manifest.from_bytes(plain_bytes(raw, MAX_MANIFEST_BYTES)).files
        }
        if {MANIFEST_NAME, SIGNATURE_NAME} & sizes.keys():
            raise BundleError("the packed bundle names its own manifest among its files; refused")
        for name in sorted(sizes):
            _taken(stream, target, name, sizes[name])
        yield target


def _header(name: str, size_bytes: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)  # no owner, no time: they would differ from machine to machine
    header.size, header.mode = size_bytes, 0o644
    return header


def _taken(stream: BinaryIO, folder: Path, name: str, limit_bytes: int) -> Path:
    """The next file of the archive, which must be called `name` and not be larger, written into `folder`."""
    try:
        # One header at a time, so that no extension of the format is followed.
        header = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as err:
        raise BundleError("this is no packed bundle; `ostiary models pack` makes one") from err
    if header.type != tarfile.REGTYPE or header.name != name or not 0 <= header.size <= limit_bytes:
        raise BundleError(f"the packed bundle does not hold {name} where it must; pack it again")
    path, left = folder / name, header.size
    with path.open("xb") as sink:
        while left:
            chunk = stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise BundleError("the packed bundle is cut short; copy it again")
            sink.write(chunk)
            left -= len(chunk)
    stream.read(-header.size % tarfile.BLOCKSIZE)
    return path
