"""`ostiary audit`: check a log without trusting its keeper."""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import click
from rich.console import Console

from sync.errors import MalformedError, SyncError
from sync.events import Record, unit_id
from sync.plain_file import plain_bytes, write_output
from sync.plain_words import told, why
from sync.proofs import bundle as bundles
from sync.proofs.verify import Report, verify

URL_TIMEOUT_S = 30.0


@click.group()
def audit() -> None:
    """Prove or disprove what a unit's log says."""


@audit.command("verify")
@click.argument("source")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="The unit's public key, PEM or DER.")
@click.option("--unit", help="Whose log it must be, as site/unit.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A signed head that you kept from before (may be repeated).",
)
@click.option(
    "--registry-key", type=click.Path(path_type=Path), help="Who signs records of retention, PEM or DER."
)
@click.option("--from", "start", type=click.IntRange(1), help="The first event it should have; else 1.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify_command(
    source: str,
    key_file: Path | None,
    unit: str | None,
    checkpoints: tuple[Path, ...],
    registry_key: Path | None,
    start: int | None,
    as_json: bool,
) -> None:
    """Check an exported bundle, from a FILE or an https URL. Exit code 0 sound, 1 not.

    A log that begins later than with event 1 is sound when the registry has recorded that it deleted the
    rest (--registry-key), or when you know it (--from).

    \b
    Example:
      ostiary audit verify icu-2.bundle --key icu-2.pem --checkpoint last-month.head
      ostiary audit verify icu-2.bundle --key icu-2.pem --registry-key receipts.pem
    """
    data = _read(source)
    heads = [_read(str(path)) for path in checkpoints]
    registry = bundles.key_from_bytes(_read(str(registry_key))) if registry_key else None
    note = None
    if key_file is not None:
        key = bundles.key_from_bytes(_read(str(key_file)))
    else:
        note = "the key came with the file: this shows that it is unchanged since it was signed, not by whom"
        try:
            key = bundles.key_from_bytes(bundles.parse(data).key)
        except MalformedError as err:
            report = Report()
            report.wrong("the file", str(err))
            _show(report, as_json)
            raise click.exceptions.Exit(1) from err
    name = unit_id(unit) if unit else None
    report = verify(data, key, unit=name, checkpoints=heads, registry_key=registry, start=start)
    if note:
        report.notes.insert(0, note)
    _show(report, as_json)
    if not report.sound:
        raise click.exceptions.Exit(1)


@audit.command("prove")
@click.argument("source")
@click.argument("sequence", type=int)
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Where the proof goes.")
def prove_command(source: str, sequence: int, out: Path) -> None:
    """Cut one event and its inclusion proof (RFC 9162) out of a whole log.

    \b
    Example:
      ostiary audit prove icu-2.bundle 1207 -o event-1207.proof
    """
    write_output(out, bundles.prove_event(_log(source), sequence).to_bytes())
    click.echo(f"event {sequence} and its proof are in {out}")


@audit.command("checkpoint")
@click.argument("source")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Where the head goes.")
def checkpoint_command(source: str, out: Path) -> None:
    """Keep a log's newest signed head, to hold later exports against it.

    \b
    Example:
      ostiary audit checkpoint icu-2.bundle -o 2026-11.head
    """
    log = _log(source)
    if not log.heads:
        raise MalformedError("this log has no signed head yet")
    write_output(out, log.heads[-1])
    click.echo(f"the newest head is in {out}; keep it where the registry's operator cannot reach it")


@audit.command("growth")
@click.argument("source")
@click.argument("old_head", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Where the proof goes.")
def growth_command(source: str, old_head: Path, out: Path) -> None:
    """Prove (RFC 9162) that a log still begins as it was when OLD_HEAD was signed.

    \b
    Example:
      ostiary audit growth icu-2.bundle 2026-11.head -o since-november.proof
    """
    write_output(out, bundles.prove_growth(_log(source), _read(str(old_head))).to_bytes())
    click.echo(f"the proof is in {out}")


@audit.command("show")
@click.argument("source")
def show_command(source: str) -> None:
    """Print a log's events as JSON Lines, unverified.

    \b
    Example:
      ostiary audit show icu-2.bundle | jq .kind
    """
    for body in _log(source).events:
        record = Record.from_bytes(body)
        row = {"unit": record.unit, "sequence": record.sequence, **dataclasses.asdict(record.event)}
        click.echo(json.dumps(row, default=str))


def _log(source: str) -> bundles.LogBundle:
    log = bundles.parse(_read(source))
    if not isinstance(log, bundles.LogBundle):
        raise MalformedError("this is a proof, not a log")
    return log


def _read(source: str) -> bytes:
    if urllib.parse.urlsplit(source).scheme in ("http", "https"):
        return _fetch(source)
    try:
        return plain_bytes(Path(source), bundles.MAX_BUNDLE_BYTES)
    except OSError as err:
        raise SyncError(f"cannot read {source}: {why(err)}") from err


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as answer:  # noqa: S310 - http(s) only, see _read
            data: bytes = answer.read(bundles.MAX_BUNDLE_BYTES + 1)
    except (urllib.error.URLError, TimeoutError, ValueError) as err:
        reason = getattr(err, "reason", err)
        reason = told(reason, "that is no address") if isinstance(reason, Exception) else reason
        raise SyncError(f"cannot fetch {url}: {reason}") from err
    if len(data) > bundles.MAX_BUNDLE_BYTES:
        raise MalformedError("a bundle has at most 1 GiB; export fewer months")
    return data


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"sound": report.sound, **dataclasses.asdict(report)}))
        return
    console = Console(highlight=False, soft_wrap=True)
    if report.sound:
        span = f"events {report.first} to {report.last}, {report.heads} signed heads"
        console.print(f"[green]sound[/green]  {report.unit}: {span}", markup=True)
    else:
        console.print(f"[red]NOT SOUND[/red]  {report.unit or 'unreadable'}", markup=True)
    for finding in report.findings:
        console.print(f"  {finding.where}: {finding.what}", markup=False)
    for note in report.notes:
        console.print(f"  note: {note}", markup=False)
