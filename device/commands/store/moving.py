"""`ostiary store passport`, `approve-backup`, `backup`, `restore`: a unit's people move to another unit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from device.commands.store.group import EXISTING, OUT, opened_store, options, private_key, store
from device.secure_store.voiceprints.vault_file import write_durably
from sync.plain_file import plain_bytes, write_output


@store.command()
@options
@OUT
def passport(state: Path | None, config: Path | None, out: Path) -> None:
    """On the new unit: write the passport to which a backup is enciphered.

    Example: ostiary store passport --out new-unit.passport
    """
    from device.secure_store import backup as papers

    with opened_store(state, config) as opened:
        paper = papers.passport(opened, opened.folder)
    write_output(out, paper)
    click.echo(f"fingerprint {papers.fingerprint(paper)}")


@store.command("approve-backup")
@click.option("--key", type=EXISTING, required=True, help="The authority's private key. Never on a unit.")
@click.option("--from", "from_key", type=EXISTING, required=True, help="The old unit's audit key, PEM.")
@click.option("--to", "to_passport", type=EXISTING, required=True, help="The new unit's passport.")
@OUT
def approve_backup(key: Path, from_key: Path, to_passport: Path, out: Path) -> None:
    """At the authority's desk: let one unit's people move to another. Compare the fingerprint first.

    Example: ostiary store approve-backup --key authority.pem --from old.pem --to new.passport --out approval
    """
    from device.secure_store import backup as papers

    paper = plain_bytes(to_passport)
    write_output(out, papers.approve(private_key(key), plain_bytes(from_key), paper))
    click.echo(f"approved for the unit with fingerprint {papers.fingerprint(paper)}")


@store.command()
@options
@click.option("--approval", type=EXISTING, required=True, help="From `ostiary store approve-backup`.")
@OUT
def backup(state: Path | None, config: Path | None, approval: Path, out: Path) -> None:
    """On the old unit: write everybody to a file that only the approved unit's TPM can open.

    Example: ostiary store backup --approval approval --out people.bundle
    """
    from device.secure_store import backup as papers

    with opened_store(state, config) as opened:
        write_durably(out, papers.export(opened, plain_bytes(approval), datetime.now(UTC)))
        click.echo(f"{opened.vault.status().people} people in {out}, for the approved unit only")


@store.command()
@options
@click.argument("bundle", type=EXISTING)
def restore(state: Path | None, config: Path | None, bundle: Path) -> None:
    """On the new unit: enrol the people of BUNDLE under this unit's keys. Works once.

    Example: ostiary store restore people.bundle
    """
    from device.secure_store import backup as papers

    with opened_store(state, config) as opened:
        result = papers.restore(
            opened, opened.folder, plain_bytes(bundle, papers.MAX_BUNDLE_BYTES), datetime.now(UTC)
        )
    click.echo(f"{result.people} people enrolled, {result.expired} left out: their consent ran out")
