"""`ostiary store measure`, `sign-policy`, `reseal`: the machine states in which the TPM gives the keys."""

from __future__ import annotations

import json
from pathlib import Path

import click

from device.commands.store.group import (
    EXISTING,
    OUT,
    options,
    private_key,
    state_folder,
    store,
    store_settings,
)
from device.secure_store.errors import SealPolicyError, StoreError
from device.secure_store.hardware.sealing_policy import SignedPolicy, sign_policy
from device.state_folder import StateFolder
from sync.plain_file import plain_bytes, write_output


@store.command()
@options
def measure(state: Path | None, config: Path | None) -> None:
    """Print this machine's PCR values, for the policy authority to approve.

    Example: ostiary store measure > state.json
    """
    from device.secure_store.hardware.tpm import Tpm

    settings = store_settings(config)
    values = Tpm(settings.tcti, 0).pcr_values(settings.pcrs)
    click.echo(json.dumps({"pcrs": {str(p): v.hex() for p, v in values.items()}}))


@store.command("sign-policy")
@click.option("--key", type=EXISTING, required=True, help="The authority's private key. Never on a unit.")
@click.option("--note", default="", help="Why: the release that starts like this.")
@OUT
@click.argument("measured", type=EXISTING)
def sign_policy_command(key: Path, note: str, out: Path, measured: Path) -> None:
    """At the authority's desk: approve the machine state in MEASURED.

    Example: ostiary store sign-policy --key authority.pem --note 1.4.2 --out policy.json state.json
    """
    try:
        values = {int(p): bytes.fromhex(v) for p, v in json.loads(plain_bytes(measured))["pcrs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise SealPolicyError(f"{measured} is not the output of `ostiary store measure`") from err
    policy = sign_policy(private_key(key), values, note)
    write_output(out, json.dumps(policy.to_json(), indent=1).encode())
    click.echo(f"approved PCR {', '.join(map(str, policy.pcrs))}; give {out} to `ostiary store reseal`")


@store.command()
@options
@click.argument("policy", type=EXISTING, required=False)
def reseal(state: Path | None, config: Path | None, policy: Path | None) -> None:
    """Accept a signed machine state, before or after an update. On a laptop, without a file: the present one.

    Example: ostiary store reseal policy.json
    """
    from device.secure_store.hardware.tpm_keystore import TpmKeystore

    settings = store_settings(config)
    if settings.keystore != "tpm":
        raise StoreError(
            "this unit keeps its keys in files: they are sealed to nothing, so there is nothing to seal anew"
        )
    keystore = TpmKeystore(StateFolder(state_folder(state)).store / "tpm", settings)
    accepted = keystore.reseal(SignedPolicy.from_json(plain_bytes(policy)) if policy else None)
    keystore.close()
    click.echo(
        f"accepted a machine state of PCR {', '.join(map(str, accepted.pcrs))}: {accepted.note or 'no note'}"
    )
