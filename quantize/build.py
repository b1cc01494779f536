"""Builds a bundle: only what changed, each file under the name of its content, the manifest last."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME
from device.model_store.calibration import Calibration
from device.model_store.manifest import MAX_MANIFEST_BYTES, BundleError, Entry, Manifest
from quantize.errors import ParityError, QuantizeError
from quantize.fetch import sha256_of
from quantize.recipe import Kitchen, Recipe, Tick
from quantize.recipes import RECIPES
from quantize.sources import source
from quantize.speech import packaged_speech

CALIBRATION_FILE = Path(__file__).with_name("calibration.toml")


def build(
    directory: Path,
    *,
    only: Iterable[str] = (),
    every: bool = False,
    folder: Path | None = None,
    origin: bool = False,
    tick: Tick | None = None,
    notify: Callable[[str], None] = lambda text: None,
    recipes: Sequence[Recipe] = RECIPES,
    calibration_file: Path = CALIBRATION_FILE,
) -> Manifest:
    """The bundle in `directory`, made or completed. What is up to date is left as it is.

    Each finished file enters the manifest at once, so an interrupted build goes on where it stopped; the
    device never sees a manifest whose files are not all there. `only` names roles; without it every role is
    made that the door needs or that is there already, and with `every` the optional ones too: of these, one
    that fails its proof is left out and `notify` hears why. Raises QuantizeError.
    """
    report = tick or (lambda text, done: None)
    settings = _calibrations(calibration_file)
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        kept = {entry.role: entry for entry in _previous(directory)}
        chosen = _chosen(only, kept, recipes, every)
        digests = _digests(recipes)
        manifest: Manifest | None = None
        for recipe in chosen:
            digest = digests[recipe.role]
            entry = kept.get(recipe.role)
            if entry is None or entry.recipe != digest or not _intact(directory, entry):
                made = {role: directory / kept[role].name for role in recipe.after if role in kept}
                if len(made) < len(recipe.after):
                    continue  # what it is made from was left out
                try:
                    entry = _make(recipe, digest, directory, Kitchen(folder, report, origin, made))
                except ParityError as err:
                    if not (every and recipe.optional):
                        raise
                    notify(f"{recipe.role} is left out: {err}")
                    continue
            kept[recipe.role] = _stated(entry, settings)
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


def up_to_date(
    directory: Path,
    recipes: Sequence[Recipe] = RECIPES,
    calibration_file: Path = CALIBRATION_FILE,
    every: bool = False,
) -> bool:
    """Whether `build` would leave every file as it is."""
    kept = {entry.role: entry for entry in _previous(directory)}
    settings = _calibrations(calibration_file)
    digests = _digests(recipes)
    for recipe in _chosen((), kept, recipes, every):
        entry = kept.get(recipe.role)
        if entry is None or entry.recipe != digests[recipe.role] or _stated(entry, settings) != entry:
            return False
    return all(_intact(directory, entry) for entry in kept.values())


def _chosen(
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
    with suppress(OSError, BundleError), (directory / MANIFEST_NAME).open("rb") as stream:
        return Manifest.from_bytes(stream.read(MAX_MANIFEST_BYTES + 1)).files
    return ()


def _intact(directory: Path, entry: Entry) -> bool:
    path = directory / entry.name
    return path.is_file() and path.stat().st_size == entry.size_bytes and sha256_of(path) == entry.sha256


def _digests(recipes: Sequence[Recipe]) -> dict[str, str]:
    """By role: the hash over all that decides what the file will be."""
    found: dict[str, str] = {}
    for recipe in recipes:
        found[recipe.role] = _digest(recipe, [found[role] for role in recipe.after])
    return found


def _digest(recipe: Recipe, before: Sequence[str]) -> str:
    facts: dict[str, Any] = {"file": recipe.file, "network": recipe.network}
    facts["sources"] = [source(name).tensors or source(name).sha256 for name in recipe.sources]
    facts["code"] = [sha256_of(_module_file(name)) for name in recipe.code]
    facts["data"] = [sha256_of(path) if path.is_file() else "" for path in recipe.data]
    facts["tools"] = {name: installed_version(name) for name in recipe.tools}
    facts["after"] = before
    facts["speech"] = packaged_speech().sha256 if recipe.needs_speech else ""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _module_file(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise QuantizeError(f"the module {name} is missing; install the project again")
    return Path(spec.origin)


def _make(recipe: Recipe, digest: str, directory: Path, kitchen: Kitchen) -> Entry:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as work:
        out = Path(work) / recipe.file
        made = recipe.make(out, kitchen)
        sha256 = sha256_of(out)
        stem, dot, suffix = recipe.file.partition(".")
        name = f"{stem}-{sha256[:12]}{dot}{suffix}"
        size_bytes = out.stat().st_size
        with out.open("rb") as stream:
            os.fsync(stream.fileno())
        out.replace(directory / name)
    origins = [source(upstream) for upstream in recipe.sources]
    return Entry(
        role=recipe.role,
        name=name,
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
        calibration_set=packaged_speech().sha256 if recipe.needs_speech else "",
        metrics=made.metrics,
        tools={tool: installed_version(tool) for tool in recipe.tools},
        recipe=digest,
    )


def _calibrations(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
        document["bundle"] = {"version": 1, "minimum_device": "0.0.0", **document.get("bundle", {})}
    except (OSError, tomllib.TOMLDecodeError, TypeError) as err:
        raise QuantizeError(f"{path.name} cannot be read ({err}); restore it from version control") from err
    return document


def _stated(entry: Entry, settings: dict[str, dict[str, Any]]) -> Entry:
    """`entry` with the calibration that is current; a new fit needs no new network."""
    given = settings.get(entry.role)
    if given is None:
        return replace(entry, calibration=None, calibration_origin="")
    try:
        calibration = Calibration(float(given["scale"]), float(given["offset"]))
    except (KeyError, TypeError, ValueError) as err:
        raise QuantizeError(f"the calibration of {entry.role} is no scale and offset ({err})") from err
    return replace(entry, calibration=calibration, calibration_origin=str(given.get("origin", "")))


def _manifest(settings: dict[str, dict[str, Any]], entries: Iterable[Entry]) -> Manifest:
    bundle = settings["bundle"]
    files = tuple(sorted(entries, key=lambda entry: entry.role))
    return Manifest(version=bundle["version"], minimum_device=bundle["minimum_device"], files=files)


def _publish(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step. A signature over the old one no longer fits, so it goes first."""
    data = manifest.to_bytes()
    target = directory / MANIFEST_NAME
    if target.is_file() and target.read_bytes() == data:
        return
    (directory / SIGNATURE_NAME).unlink(missing_ok=True)
    partial = directory / f"{MANIFEST_NAME}.part"
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(target)


def _prune(directory: Path, manifest: Manifest) -> None:
    """Drop what earlier builds of these roles left behind; nothing else in the directory is touched."""
    current = {entry.name for entry in manifest.files}
    for entry in manifest.files:
        stem, _, suffix = entry.name.partition(".")
        pattern = f"{stem.rsplit('-', 1)[0]}-{'[0-9a-f]' * 12}.{suffix}"
        for old in directory.glob(pattern):
            if old.name not in current:
                old.unlink(missing_ok=True)
