"""Builds a bundle: only what is missing, each file under the name of its content, the manifest last.

What a build ends with was decided by a release: every file has the bytes that were proven, or the build stops
and names it. So nothing is measured here, and any machine makes what any other makes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME
from device.model_store.calibration import Calibration
from device.model_store.manifest import MAX_MANIFEST_BYTES, BundleError, Entry, Manifest
from quantize.errors import QuantizeError
from quantize.recipe import Artefact, BuildContext, Recipe, ReportProgress
from quantize.release.catalogue import RECIPES
from quantize.release.proven import Proven, read_proven
from quantize.upstream.fetch import sha256_of
from quantize.upstream.sources import source
from sync.durable import move_file, replace_file
from sync.plain_file import open_plain, plain_bytes, plain_text
from sync.plain_words import what_and_why
from sync.toml_table import toml_table

CALIBRATION_FILE = Path(__file__).parents[1] / "calibration.toml"
_PARTIAL = ".partial-"


def build(
    directory: Path,
    *,
    only: Iterable[str] = (),
    every: bool = False,
    folder: Path | None = None,
    origin: bool = False,
    progress: ReportProgress | None = None,
    notify: Callable[[str], None] = lambda text: None,
    recipes: Sequence[Recipe] = RECIPES,
    calibration_file: Path = CALIBRATION_FILE,
    proven: Mapping[str, Proven] | None = None,
) -> Manifest:
    """The bundle in `directory`, made or completed. What is there already is left as it is.

    Each finished file enters the manifest at once, so an interrupted build goes on where it stopped; the
    device never sees a manifest whose files are not all there. `only` names roles; without it every role is
    made that the door needs or that is there already, and with `every` the optional ones too: of these, one
    that no release proved is left out and `notify` hears of it.

    Raises QuantizeError, also when a file does not come out as it was proven.
    """
    report = progress or (lambda text, done: None)
    settings = _calibrations(calibration_file)
    wanted = read_proven() if proven is None else proven
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        _clear(directory)
        kept = {entry.role: entry for entry in _previous(directory)}
        manifest: Manifest | None = None
        for recipe in chosen_recipes(only, kept, recipes, every):
            if recipe.role not in wanted or not all(role in wanted for role in recipe.after):
                if not (every and recipe.optional):
                    raise QuantizeError(f"no release proved {recipe.role}; it is not built (docs/models.md)")
                notify(f"{recipe.role} is left out: no release proved it")
                continue
            entry = kept.get(recipe.role)
            if entry is None or not _is_proven(directory, entry, recipe, kept, wanted):
                made = {role: directory / kept[role].name for role in recipe.after}
                entry = _make(
                    recipe, wanted[recipe.role], directory, BuildContext(folder, report, origin, made)
                )
            kept[recipe.role] = _stated(entry, recipe, wanted[recipe.role], settings)
            manifest = _manifest(settings, [e for e in kept.values() if _known(e, recipes)])
            _publish(directory, manifest)
            report(f"{recipe.role} is ready", 1.0)
        if manifest is None:
            raise QuantizeError("there is nothing to build")
        _prune(directory, manifest)
        return manifest


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait for another build of the same bundle: each would throw away what only the other one names."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(directory: Path) -> None:
    """Remove what a build that was killed left behind."""
    for stale in directory.glob(f"{_PARTIAL}*"):
        shutil.rmtree(stale, ignore_errors=True)


def up_to_date(
    directory: Path,
    recipes: Sequence[Recipe] = RECIPES,
    calibration_file: Path = CALIBRATION_FILE,
    every: bool = False,
    proven: Mapping[str, Proven] | None = None,
) -> bool:
    """Whether `build` would leave every file and the manifest as they are."""
    kept = {entry.role: entry for entry in _previous(directory)}
    settings = _calibrations(calibration_file)
    wanted = read_proven() if proven is None else proven
    for recipe in chosen_recipes((), kept, recipes, every):
        if recipe.optional and recipe.role not in wanted:
            continue
        entry, pin = kept.get(recipe.role), wanted.get(recipe.role)
        if entry is None or pin is None or not _is_proven(directory, entry, recipe, kept, wanted):
            return False
        if _stated(entry, recipe, pin, settings) != entry:
            return False
    current = [entry for entry in kept.values() if _known(entry, recipes)]
    return _previous_bytes(directory) == _manifest(settings, current).to_bytes()


def _is_proven(
    directory: Path, entry: Entry, recipe: Recipe, kept: Mapping[str, Entry], wanted: Mapping[str, Proven]
) -> bool:
    """Whether the file is whole, the one that was proven, and made from those that are here."""
    needed = {recipe.role: entry} | {role: kept.get(role) for role in recipe.after}
    same = all(one is not None and one.sha256 == wanted[role].sha256 for role, one in needed.items())
    return same and _intact(directory, entry)


def chosen_recipes(
    only: Iterable[str], there: Container[str], recipes: Sequence[Recipe], every: bool
) -> list[Recipe]:
    """The recipes to follow, each after those whose files it needs."""
    wanted = set(only)
    unknown = sorted(wanted - {recipe.role for recipe in recipes})
    if unknown:
        known = ", ".join(recipe.role for recipe in recipes)
        raise QuantizeError(f"no model plays the role {unknown[0]!r}; known roles: {known}")
    if not wanted:
        wanted = {r.role for r in recipes if every or not r.optional or r.role in there}
    for recipe in reversed(recipes):
        if recipe.role in wanted:
            wanted.update(recipe.after)
    return [recipe for recipe in recipes if recipe.role in wanted]


def _known(entry: Entry, recipes: Sequence[Recipe]) -> bool:
    return any(recipe.role == entry.role for recipe in recipes)


def _previous(directory: Path) -> tuple[Entry, ...]:
    """What an earlier build left; a damaged manifest counts as none, its files are made again."""
    with suppress(BundleError):
        return Manifest.from_bytes(_previous_bytes(directory)).files
    return ()


def _previous_bytes(directory: Path) -> bytes:
    with suppress(OSError), open_plain(directory / MANIFEST_NAME) as stream:
        return stream.read(MAX_MANIFEST_BYTES + 1)
    return b""


def _intact(directory: Path, entry: Entry) -> bool:
    path = directory / entry.name
    return path.is_file() and path.stat().st_size == entry.size_bytes and sha256_of(path) == entry.sha256


def _make(recipe: Recipe, proven: Proven, directory: Path, context: BuildContext) -> Entry:
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=directory) as work:
        out = Path(work) / recipe.file
        made = recipe.make(out, context)
        sha256 = sha256_of(out)
        if not proven.fits(sha256):
            raise QuantizeError(
                f"{recipe.file} came out as {sha256[:12]} where {proven.sha256[:12]} was proven: the Python "
                "packages are not the lock file's, or this machine is faulty; run scripts/setup again"
            )
        entry = entry_of(recipe, made, sha256, out.stat().st_size)
        move_file(out, directory / entry.name)
    return entry


def entry_of(recipe: Recipe, made: Artefact, sha256: str, size_bytes: int) -> Entry:
    """What the manifest says about a finished file: nothing about the machine that made it."""
    stem, dot, suffix = recipe.file.partition(".")
    origins = [source(upstream) for upstream in recipe.sources]
    return Entry(
        role=recipe.role,
        name=f"{stem}-{sha256[:12]}{dot}{suffix}",
        sha256=sha256,
        size_bytes=size_bytes,
        version=made.version or f"{recipe.network}-{sha256[:8]}",
        task=recipe.task,
        licence=recipe.licence,
        source={
            item.name: f"{item.origin.repository}@{item.origin.revision}:{item.origin.file} "
            f"sha256:{item.sha256} tensors:{item.tensors or '-'}"
            for item in origins
        }
        | dict(made.source),
        inputs=made.inputs,
        outputs=made.outputs,
        calibration_set=made.calibration_set,
    )


def _calibrations(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document: dict[str, dict[str, Any]] = toml_table(plain_text(path))
        document["bundle"] = {"version": 1, "minimum_device": "0.0.0", **document.get("bundle", {})}
    except (OSError, ValueError, TypeError) as err:
        raise QuantizeError(
            f"{path.name} cannot be read ({what_and_why(err)}); restore it from version control"
        ) from err
    return document


def _stated(entry: Entry, recipe: Recipe, proven: Proven, settings: dict[str, dict[str, Any]]) -> Entry:
    """`entry` as it is described today: a new fit or a new proof needs no new network."""
    told = replace(entry, task=recipe.task, licence=recipe.licence, metrics=dict(proven.metrics))
    given = settings.get(entry.role)
    if given is None:
        return replace(told, calibration=None, calibration_origin="")
    try:
        calibration = Calibration(float(given["scale"]), float(given["offset"]))
    except (KeyError, TypeError, ValueError) as err:
        raise QuantizeError(f"the calibration of {entry.role} is no scale and offset ({err})") from err
    return replace(told, calibration=calibration, calibration_origin=str(given.get("origin", "")))


def _manifest(settings: dict[str, dict[str, Any]], entries: Iterable[Entry]) -> Manifest:
    bundle = settings["bundle"]
    files = tuple(sorted(entries, key=lambda entry: entry.role))
    return Manifest(version=bundle["version"], minimum_device=bundle["minimum_device"], files=files)


def _publish(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step. A signature over the old one no longer fits, so it goes first."""
    data = manifest.to_bytes()
    target = directory / MANIFEST_NAME
    if target.is_file() and plain_bytes(target) == data:
        return
    (directory / SIGNATURE_NAME).unlink(missing_ok=True)
    replace_file(target, data, 0o644)


def _prune(directory: Path, manifest: Manifest) -> None:
    """Drop what earlier builds of these roles left behind; nothing else in the directory is touched."""
    current = {entry.name for entry in manifest.files}
    for entry in manifest.files:
        stem, _, suffix = entry.name.partition(".")
        pattern = f"{stem.rsplit('-', 1)[0]}-{'[0-9a-f]' * 12}.{suffix}"
        for old in directory.glob(pattern):
            if old.name not in current:
                old.unlink(missing_ok=True)
