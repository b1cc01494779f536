"""`ostiary store`: what an administrator does with the vault's keys."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import SealPolicyError, StoreError
from device.secure_store.hardware.sealing_policy import SignedPolicy, sign_policy
from device.secure_store.settings import StoreSettings
from device.secure_store.store import Store, open_keystore, open_store
from device.secure_store.voiceprints.tenant import KEY_BYTES
from device.secure_store.voiceprints.vault_file import write_durably
from device.state_folder import StateFolder
from sync.plain_file import plain_bytes, write_output

F = TypeVar("F", bound=Callable[..., object])
_STATE = click.option("--state", type=click.Path(path_type=Path), help="State folder, if not the unit's own.")
_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file, if not the unit's own."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
_OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def store() -> None:
    """Keys and vault of this unit: status, sealing policy, rotation, backup.

    Example: ostiary store status --json
    """


def _options(command: F) -> F:
    return _STATE(_CONFIG(command))


def _settings(config: Path | None) -> StoreSettings:
    from device.settings import load  # the tree of settings knows the store's, not the other way round

    return load(config).store


def _folder(state: Path | None) -> Path:
    from device.settings import state_dir

    return state or state_dir()


def _open(state: Path | None, config: Path | None) -> Store:
    return open_store(_folder(state), _settings(config))


@store.command("successor")
@_options
@_JSON
def successor(state: Path | None, config: Path | None, as_json: bool) -> None:
    """Who has come over to the newer of two speaker models, and who still needs the older one.

    People come over by their own granted attempts, on three days; then both models decide, until the person
    enrols in person by the newer. Exit code 1 while somebody has not come over.

    Example: ostiary store successor
    """
    from device.model_store import slots
    from device.models.second_speaker import BEFORE, NEXT
    from device.settings import models_dir

    manifest = slots.active(models_dir()).manifest
    roles = {entry.role for entry in manifest.files}
    if not roles & {BEFORE, NEXT}:
        raise StoreError("the models of this unit have one speaker model, and none that it follows")
    model = manifest.entry(NEXT if NEXT in roles else "speaker").version
    with _open(state, config) as opened:
        growth, enrolled = opened.vault.growth(model), opened.vault.models()
    late = {uid: days for uid, days in growth.items() if days is not None}
    both = sorted(uid for uid in growth if uid not in late and enrolled.get(uid) != model)
    if as_json:
        told = {"model": model, "people": growth, "by_both": both, "to_enrol": sorted(late)}
        click.echo(json.dumps(told))
    else:
        click.echo(
            f"{model}: {len(growth) - len(late)} of {len(growth)} people have come over, {len(both)} of them "
            "are decided by both models until they enrol in person"
        )
        for uid, days in sorted(late.items()):
            click.echo(f"  {uid}  heard on {days} of 3 days")
    if late:
        raise click.exceptions.Exit(1)


@store.command()
@_options
@_JSON
def status(state: Path | None, config: Path | None, as_json: bool) -> None:
    """Is the vault sound, is the TPM willing, who vouches. Exit code 1 when something is wrong.

    Example: ostiary store status
    """
    with _open(state, config) as opened:
        found = opened.status()
    well = found.keystore.ready and not found.vault.damaged
    facts = {
        "unit": str(found.vault.unit),
        "people": found.vault.people,
        "vault counter": found.vault.counter,
        "key epoch": found.vault.epoch,
        "damaged records": [str(i) for i in found.vault.damaged],
        "repaired records": [str(i) for i in found.vault.repaired],
        "notes": list(found.vault.notes),
        "keystore": found.keystore.kind,
        "keystore state": found.keystore.state,
        "warning": found.warning,
        "memory locked": found.memory_locked,
        **found.keystore.facts,
    }
    if as_json:
        click.echo(json.dumps({"ok": well, **facts}))
    else:
        for name, value in facts.items():
            if value not in (None, []):
                click.echo(f"{name:>26}  {', '.join(value) if isinstance(value, list) else value}")
    if not well:
        raise click.exceptions.Exit(1)


@store.command()
@_options
@click.option("--replace", is_flag=True, help="Destroy the present store: everybody has to enrol again.")
@click.confirmation_option(prompt="Make a store here?")
def init(state: Path | None, config: Path | None, replace: bool) -> None:
    """Make an empty store, or with --replace destroy the one that is here and begin again.

    Example: ostiary store init --replace --yes
    """
    settings, folder = _settings(config), StateFolder(_folder(state)).store
    if replace:
        _destroy(folder, settings)
    elif folder.exists() and any(folder.iterdir()):
        raise StoreError("there is a store here; --replace destroys it, and everybody has to enrol again")
    with open_store(_folder(state), settings) as opened:
        click.echo(f"store of unit {opened.vault.status().unit} is ready")


@store.command()
@_options
def measure(state: Path | None, config: Path | None) -> None:
    """This machine's PCR values, for the policy authority to approve.

    Example: ostiary store measure > state.json
    """
    from device.secure_store.hardware.tpm import Tpm

    settings = _settings(config)
    values = Tpm(settings.tcti, 0).pcr_values(settings.pcrs)
    click.echo(json.dumps({"pcrs": {str(p): v.hex() for p, v in values.items()}}))


@store.command("sign-policy")
@click.option("--key", type=_EXISTING, required=True, help="The authority's private key. Never on a unit.")
@click.option("--note", default="", help="Why: the release that starts like this.")
@_OUT
@click.argument("measured", type=_EXISTING)
def sign_policy_command(key: Path, note: str, out: Path, measured: Path) -> None:
    """At the authority's desk: approve the machine state in MEASURED.

    Example: ostiary store sign-policy --key authority.pem --note 1.4.2 --out policy.json state.json
    """
    try:
        values = {int(p): bytes.fromhex(v) for p, v in json.loads(plain_bytes(measured))["pcrs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise SealPolicyError(f"{measured} is not the output of `ostiary store measure`") from err
    policy = sign_policy(_private_key(key), values, note)
    write_output(out, json.dumps(policy.to_json(), indent=1).encode())
    click.echo(f"approved PCR {', '.join(map(str, policy.pcrs))}; give {out} to `ostiary store reseal`")


@store.command()
@_options
@click.argument("policy", type=_EXISTING, required=False)
def reseal(state: Path | None, config: Path | None, policy: Path | None) -> None:
    """Accept a signed machine state, before or after an update. On a laptop, without a file: the present one.

    Example: ostiary store reseal policy.json
    """
    from device.secure_store.hardware.tpm_keystore import TpmKeystore

    settings = _settings(config)
    if settings.keystore != "tpm":
        raise StoreError(
            "this unit keeps its keys in files: they are sealed to nothing, so there is nothing to seal anew"
        )
    keystore = TpmKeystore(StateFolder(_folder(state)).store / "tpm", settings)
    accepted = keystore.reseal(SignedPolicy.from_json(plain_bytes(policy)) if policy else None)
    keystore.close()
    click.echo(
        f"accepted a machine state of PCR {', '.join(map(str, accepted.pcrs))}: {accepted.note or 'no note'}"
    )


@store.command()
@_options
def rotate(state: Path | None, config: Path | None) -> None:
    """A new key for everybody's keys; the old one can never be unsealed again. Nobody enrols again.

    Example: ostiary store rotate
    """
    with _open(state, config) as opened:
        epoch = opened.vault.rotate()
        click.echo(f"{opened.vault.status().people} people are under key epoch {epoch}")


@store.command()
@_options
@click.option("--clock-is-right", is_flag=True, help="Erase them all: you have looked at this clock.")
@_JSON
def purge(state: Path | None, config: Path | None, clock_is_right: bool, as_json: bool) -> None:
    """Forget people whose consent ran out; prints the signed deletion receipts with --json.

    Erasing is for ever and clocks err: without --clock-is-right at most a tenth of the people go at once, and
    one at least. The running unit does the same once a day.

    Example: ostiary store purge --json
    """
    with _open(state, config) as opened:
        people = opened.vault.status().people
        receipts = opened.vault.purge_expired(None if clock_is_right else max(1, people // 10))
        left = opened.vault.expired()
        if receipts:
            _note_purge(opened, _folder(state), config, len(receipts))
    if as_json:
        click.echo(json.dumps([r.to_bytes().hex() for r in receipts]))
    else:
        click.echo(f"{len(receipts)} people forgotten because their consent ran out")
        if left:
            click.echo(
                f"{left} more by this clock, which says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: run it again "
                "with --clock-is-right if it is"
            )


def _note_purge(opened: Store, state: Path, config: Path | None, count: int) -> None:
    from device.clock import system_clock
    from device.settings import load
    from device.unit.assembly import open_trail

    settings = load(config)
    with open_trail(opened, settings, state, system_clock) as trail:
        trail.note("CONSENT_EXPIRED", "consent_expired", settings.door.name, count=count, risk="low")


@store.command("new-tenant-key")
@_OUT
def new_tenant_key(out: Path) -> None:
    """At the operator's desk, once: make the key under which people are pseudonyms at all its doors.

    Its holder, with a list of badge numbers, can tell whom an event is about; destroying every copy unlinks
    every event from every person.

    Example: ostiary store new-tenant-key --out tenant.key
    """
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    except OSError as err:
        raise StoreError(f"{out} cannot be made: {err.strerror}") from err
    click.echo(f"{out} goes to every unit by `ostiary store tenant-key`; keep no copy in the clear")


@store.command("tenant-key")
@_options
@click.argument("key", type=_EXISTING)
def tenant_key_command(state: Path | None, config: Path | None, key: Path) -> None:
    """Take the operator's pseudonym key into this unit's store, enciphered under its sealed key.

    Example: ostiary store tenant-key tenant.key
    """
    with _open(state, config) as opened:
        opened.keep_tenant_key(plain_bytes(key)[: KEY_BYTES + 1])
    click.echo("the tenant's key counts from the unit's next start; delete the file that it came in")


@store.command()
@_options
@_OUT
def passport(state: Path | None, config: Path | None, out: Path) -> None:
    """On the new unit: the paper that a backup is made out to.

    Example: ostiary store passport --out new-unit.passport
    """
    from device.secure_store import backup as papers

    with _open(state, config) as opened:
        paper = papers.passport(opened, opened.folder)
    write_output(out, paper)
    click.echo(f"fingerprint {papers.fingerprint(paper)}")


@store.command("audit-key")
@_options
def audit_key(state: Path | None, config: Path | None) -> None:
    """This unit's audit key (public part, PEM): what registry and authority know it by.

    Also while the door process runs: the vault stays closed.

    Example: ostiary store audit-key > unit.pem
    """
    with closing(open_keystore(StateFolder(_folder(state)).store, _settings(config))) as keystore:
        key = keystore.audit_signer().public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    click.echo(pem.decode(), nl=False)


@store.command("exchange-key")
@_options
def exchange_key(state: Path | None, config: Path | None) -> None:
    """This unit's exchange key (public part, PEM): what enrolments are sealed to. Made on the first call.

    Example: ostiary store exchange-key > icu-2.exchange.pem
    """
    with closing(open_keystore(StateFolder(_folder(state)).store, _settings(config))) as keystore:
        key = keystore.exchange().public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    click.echo(pem.decode(), nl=False)


@store.command("approve-backup")
@click.option("--key", type=_EXISTING, required=True, help="The authority's private key. Never on a unit.")
@click.option("--from", "from_key", type=_EXISTING, required=True, help="The old unit's audit key, PEM.")
@click.option("--to", "to_passport", type=_EXISTING, required=True, help="The new unit's passport.")
@_OUT
def approve_backup(key: Path, from_key: Path, to_passport: Path, out: Path) -> None:
    """At the authority's desk: let one unit's people move to another. Compare the fingerprint first.

    Example: ostiary store approve-backup --key authority.pem --from old.pem --to new.passport --out approval
    """
    from device.secure_store import backup as papers

    paper = plain_bytes(to_passport)
    write_output(out, papers.approve(_private_key(key), plain_bytes(from_key), paper))
    click.echo(f"approved for the unit with fingerprint {papers.fingerprint(paper)}")


@store.command()
@_options
@click.option("--approval", type=_EXISTING, required=True, help="From `ostiary store approve-backup`.")
@_OUT
def backup(state: Path | None, config: Path | None, approval: Path, out: Path) -> None:
    """On the old unit: everybody, enciphered to the approved unit's TPM and to nothing else.

    Example: ostiary store backup --approval approval --out people.bundle
    """
    from device.secure_store import backup as papers

    with _open(state, config) as opened:
        write_durably(out, papers.export(opened, plain_bytes(approval), datetime.now(UTC)))
        click.echo(f"{opened.vault.status().people} people in {out}, for the approved unit only")


@store.command()
@_options
@click.argument("bundle", type=_EXISTING)
def restore(state: Path | None, config: Path | None, bundle: Path) -> None:
    """On the new unit: enrol the people of BUNDLE under this unit's keys. Works once.

    Example: ostiary store restore people.bundle
    """
    from device.secure_store import backup as papers

    with _open(state, config) as opened:
        result = papers.restore(
            opened, opened.folder, plain_bytes(bundle, papers.MAX_BUNDLE_BYTES), datetime.now(UTC)
        )
    click.echo(f"{result.people} people enrolled, {result.expired} left out: their consent ran out")


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(plain_bytes(path), password=None)
    except (ValueError, TypeError) as err:
        raise StoreError(f"{path} is not a private key in PEM without a password") from err
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise StoreError(f"{path} is not a P-256 key: openssl ecparam -name prime256v1 -genkey -noout")
    return key


def _destroy(folder: Path, settings: StoreSettings) -> None:
    """Everything of the store: first the counters, without which no copy of it opens again."""
    if settings.keystore == "tpm":
        from device.secure_store.hardware.tpm_keystore import remove_counters

        remove_counters(settings)
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        path.rmdir() if path.is_dir() else path.unlink()
