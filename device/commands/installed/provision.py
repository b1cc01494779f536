"""`ostiary provision`: registers a new unit at its site, by a claim and proofs of its TPM."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from device.access.rules import load_rules
from device.commands.installed.first_boot import AUTHORITY_NAME, prepared_authority, production, set_up
from device.errors import DeviceError
from device.secure_store import SealPolicyError, open_store
from device.secure_store.hardware.endorsement import endorsement
from device.secure_store.hardware.sealing_policy import SignedPolicy
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.store import open_keystore
from device.settings import SYSTEM_FILE, Settings, load, settings_file, state_dir
from device.state_folder import StateFolder
from device.uplink.admission import redeem, trusted_site
from device.uplink.network import Network, Place
from sync.durable import replace_file
from sync.fleet.provisioning.claim import Claim, Parcel
from sync.plain_file import plain_bytes, plain_text
from sync.plain_words import why

FLEET_FILES = {"commands": "fleet-commands.pem", "authority": "fleet-authority.pem"}
"""Beside the settings: the keys that sign documents, and that certify exchange keys."""


@click.command("provision")
@click.argument("text", metavar="[CLAIM]", required=False)
@click.option("--tcti", default="device:/dev/tpmrm0", show_default=True, help="How the TPM is reached.")
@click.option("--show-tpm", is_flag=True, help="Only print what an inventory knows this TPM by.")
@click.option("--status", "show", is_flag=True, help="Only tell this unit's place and how long it is good.")
def provision(text: str | None, tcti: str, show_tpm: bool, show: bool) -> None:
    """Take this unit's place: keys are made in the TPM and proved, a certificate and the rest is received.

    CLAIM is the line that `ostiary fleet claim` printed, typed, pasted or read by a scanner. Cut off in the
    middle, the same command is run again.

    \b
    Example: ostiary provision ostiary-claim://mqtt.st-mary.example:8444/st-mary/icu-2/pharmacy#...
    """
    if show_tpm:
        _show_tpm(tcti)
        return
    if show:
        _show_place()
        return
    claim = Claim.parse(text if text is not None else click.prompt("Scan or paste the claim"))
    site = trusted_site(claim)
    click.echo(f"the site at {claim.host}:{claim.port} is the one that the claim names")
    file = settings_file() or SYSTEM_FILE
    settings = prepared(claim, file, tcti)
    state = state_dir()
    with closing(_keystore(settings, state)) as keystore:
        place, parcel = redeem(claim, site, keystore, Network(state), click.echo)
        for policy in parcel.policies:
            keystore.reseal(SignedPolicy.from_json(policy))
    take_in(parcel, settings, state)
    if followed(file, settings, place):
        click.echo(f"it follows what {place.unit.partition('/')[0]} signs: [fleet] in {file}")
    click.echo(f"This is {claim.unit}, door {claim.door}. It is in its place: systemctl start ostiary-door")


def prepared(claim: Claim, file: Path, tcti: str) -> Settings:
    """The unit's settings, written from the claim where there are none. Raises DeviceError."""
    if not file.exists():
        authority = file.parent / AUTHORITY_NAME
        prepared_authority(claim, authority)
        set_up(file, claim.door, claim.unit, production(authority, tcti))
        click.echo(f"door and unit are named in {file}")
    settings = load(file)
    if (settings.door.unit, settings.door.name) != (claim.unit, claim.door):
        raise DeviceError(
            f"{file} says that this is {settings.door.unit}, door {settings.door.name}; the claim is for "
            f"{claim.unit}, door {claim.door}"
        )
    return settings


def take_in(parcel: Parcel, settings: Settings, state: Path) -> None:
    """Adopt the parcel's rules and tenant key. Raises DeviceError where the store does not open."""
    if parcel.tenant_key:
        try:
            with open_store(state, settings.store, warn=lambda _: None) as store:
                store.keep_tenant_key(parcel.tenant_key)
        except SealPolicyError as err:
            raise DeviceError(
                f"the unit has its certificate, but its keys do not open yet ({err}); have its state "
                "approved (`ostiary store measure`, `ostiary store reseal`) and run this again"
            ) from err
        click.echo("the tenant's key is in the store")
    path = StateFolder(state).rules
    if parcel.rules and not (path.exists() and plain_bytes(path) == parcel.rules):
        with TemporaryDirectory() as folder:
            file = Path(folder) / "rules.toml"
            file.write_bytes(parcel.rules)
            if path.exists() and load_rules(file).version <= load_rules(path).version:
                click.echo("the rules that are in force are newer than the claim's; they stay")
            else:
                from device.commands.policy import adopt_rules  # loads the models' libraries: seconds

                click.echo(adopt_rules(file))


def followed(file: Path, settings: Settings, place: Place) -> bool:
    """Have the settings `file` name the site's keys as `[fleet]`, in files beside it.

    Only an administrator writes there, unlike the uplink, which has a network. False where the settings said
    so before. Raises DeviceError where they name another fleet.
    """
    named = {"commands": place.command_key, "authority": place.root}
    missing = []
    for name, pem in named.items():
        chosen: Path | None = getattr(settings.fleet, name)
        if chosen is None:
            missing.append(name)
        elif _same_key_or_certificate(chosen, pem):
            continue
        elif chosen != file.parent / FLEET_FILES[name]:
            raise DeviceError(
                f"{file} follows somebody else ([fleet] {name} = {chosen}); take that line out and run this "
                "again"
            )
        else:  # of another site or another time, by this very command
            _put(chosen, pem)
    if not missing:
        return False
    for name in missing:
        _put(file.parent / FLEET_FILES[name], named[name])
    lines = "".join(f'{name} = "{file.parent / FLEET_FILES[name]}"\n' for name in missing)
    text = plain_text(file)
    table = re.search(r"^\[fleet\][^\n]*\n", text, re.MULTILINE)
    if table is None:
        text = f"{text.rstrip()}\n\n[fleet]\n{lines}"
    else:
        text = text[: table.end()] + lines + text[table.end() :]
    _put(file, text)
    load(file)  # what was written is what counts
    return True


def _same_key_or_certificate(path: Path, pem: str) -> bool:
    try:
        return plain_text(path).split() == pem.split()
    except (OSError, ValueError):
        return False


def _put(path: Path, text: str) -> None:
    """Write a file that the other services may read; it holds no secret."""
    try:
        replace_file(path, text.encode(), 0o644)
    except OSError as err:
        raise DeviceError(f"{path} cannot be written ({why(err)}); run this as root") from err


def _keystore(settings: Settings, state: Path) -> TpmKeystore:
    if settings.store.keystore != "tpm":
        raise DeviceError(
            "this unit keeps its keys in files, and only a TPM can prove itself; without one it is "
            "registered by hand (docs/operator/registry.md)"
        )
    folder = StateFolder(state).store
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keystore = open_keystore(folder, settings.store)
    if not isinstance(keystore, TpmKeystore):
        raise DeviceError(
            'the keys of this unit are not in a TPM; set `[store] keystore = "tpm"` on an empty state folder'
        )
    return keystore


def _show_tpm(tcti: str) -> None:
    from device.secure_store.hardware.tpm_link import TpmLink

    found = endorsement(TpmLink(tcti, 0))
    certificate = "with" if found.certificate else "without"
    click.echo(hashlib.sha256(found.public).hexdigest())
    click.echo(f"{found.kind}, {certificate} a certificate of its maker", err=True)


def _show_place() -> None:
    place = Network(state_dir()).place()
    if place is None:
        raise DeviceError("this unit was not provisioned; run: ostiary provision CLAIM")
    facts = {
        "unit": place.unit,
        "door": place.door,
        "broker": place.broker,
        "claims": place.claims,
        "tpm": place.tpm,
        "certificate_until": place.certificate().not_valid_after_utc.isoformat(),
        "days_left": round(place.days_left(datetime.now(UTC)), 1),
    }
    click.echo(json.dumps(facts))
