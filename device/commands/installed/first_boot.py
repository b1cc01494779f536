"""`ostiary first-boot`: names the door of a new unit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from device.errors import DeviceError
from device.secure_store.voiceprints.vault_file import write_durably
from device.settings import SYSTEM_FILE
from sync.errors import MalformedError
from sync.events import door_name, unit_id
from sync.fleet.provisioning.claim import Claim
from sync.plain_file import plain_text
from sync.plain_words import why

TPM = Path("/dev/tpmrm0")
MACHINE_ID = Path("/etc/machine-id")
AUTHORITY_NAME = "policy-authority.pem"

_HEAD = """\
# The settings of this unit. `ostiary config show` lists all there are, `ostiary config check` every mistake.
# After a change: systemctl restart ostiary-door
"""


@click.command("first-boot")
@click.option("--door", metavar="NAME", help="Instead of being asked.")
@click.option(
    "--unit", metavar="SITE/UNIT", help="How the registry knows this unit; else made of its machine id."
)
@click.option("--claim", help="Take the names from a site's claim instead.")
@click.option("--trial", is_flag=True, help="Without a TPM, for a table top: the keys then lie in files.")
@click.option("--tcti", default=f"device:{TPM}", show_default=True, help="How the TPM is reached.")
@click.option(
    "--settings",
    "file",
    type=click.Path(path_type=Path),
    default=SYSTEM_FILE,
    show_default=True,
    help="Written.",
)
def first_boot(
    door: str | None, unit: str | None, claim: str | None, trial: bool, tcti: str, file: Path
) -> None:
    """Set up a new unit: ask for the door's name and write /etc/ostiary/ostiary.toml.

    With --claim both names come from the claim, and `ostiary provision` does the rest.

    A unit in service needs a TPM and, beside the settings, the public key of those who may move its sealing
    policy: policy-authority.pem (docs/operator says how that is made once for a site).

    \b
    Example: ostiary first-boot --door pharmacy
    """
    if file.exists():
        raise DeviceError(f"{file} is there already: this unit is set up; change it with an editor")
    if claim is not None:
        named = Claim.parse(claim)
        prepared_authority(named, file.parent / AUTHORITY_NAME)
        set_up(file, named.door, named.unit, production(file.parent / AUTHORITY_NAME, tcti))
        return
    name = door if door is not None else click.prompt("Which door is this? (such as pharmacy)")
    store = _TRIAL if trial else production(file.parent / AUTHORITY_NAME, tcti)
    chosen = unit if unit is not None else _own_unit()
    set_up(file, name, chosen, store)
    then = "Start it" if trial else "Seal its keys (ostiary store measure), write its rules, then start it"
    click.echo(f"This is door {name} of unit {chosen}. {then}: systemctl start ostiary-door")


def set_up(file: Path, door: str, unit: str, store: str) -> None:
    """Write the settings of a new unit; `store` is the table of its key store. Raises DeviceError."""
    try:
        door_name(door)
        unit_id(unit)
    except MalformedError as err:
        raise DeviceError(str(err)) from err
    _readable_folder(file.parent)
    write_durably(file, f'{_HEAD}\n[door]\nname = "{door}"\nunit = "{unit}"\n\n{store}'.encode())
    file.chmod(0o644)  # the other services read it too, and nothing in it is secret


def prepared_authority(claim: Claim, file: Path) -> None:
    """Fetch the public key of the authority over machine states, from the site that the claim pins."""
    if file.exists():
        return
    from device.uplink.admission import trusted_site  # a table top without a TPM has no TPM libraries

    site = trusted_site(claim)
    if site.policy_authority:
        _readable_folder(file.parent)
        write_durably(file, site.policy_authority)
        file.chmod(0o644)


def _readable_folder(folder: Path) -> None:
    """Make a folder that the unit's own user can read, whatever root's mask."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


_TRIAL = """\
[store]
profile = "laptop"       # no TPM: anybody who takes the disk has the keys
keystore = "software"
"""


def production(authority: Path, tcti: str) -> str:
    """The settings of a store on a TPM. Raises DeviceError naming what is missing."""
    if tcti == f"device:{TPM}" and not TPM.exists():
        raise DeviceError(f"no TPM at {TPM}; fit one, or give --trial for a table top without")
    if not authority.exists():
        raise DeviceError(f"{authority} is missing: copy the site's public policy key there (docs/operator)")
    return (
        f'[store]\nprofile = "production"\nkeystore = "tpm"\ntcti = "{tcti}"\n'
        f'policy_authority = "{authority}"\n'
    )


def _own_unit() -> str:
    """A name that no other unit has, from a hash of the machine's id."""
    try:
        machine = plain_text(MACHINE_ID).strip()
    except OSError as err:
        raise DeviceError(f"{MACHINE_ID} cannot be read ({why(err)}); give --unit SITE/UNIT") from err
    if not machine:
        raise DeviceError(f"{MACHINE_ID} is empty; give --unit SITE/UNIT")
    return f"site-1/unit-{hashlib.sha256(b'ostiary unit ' + machine.encode()).hexdigest()[:8]}"
