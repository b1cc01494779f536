"""The group `ostiary store`, and its commands' shared options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import StoreError
from device.secure_store.settings import StoreSettings
from device.secure_store.store import Store, open_store
from device.settings import load, state_dir
from sync.plain_file import plain_bytes

F = TypeVar("F", bound=Callable[..., object])
STATE = click.option("--state", type=click.Path(path_type=Path), help="State folder, if not the unit's own.")
CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file, if not the unit's own."
)
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def store() -> None:
    """Keys and vault of this unit: status, sealing policy, rotation, backup.

    Example: ostiary store status --json
    """


def options(command: F) -> F:
    return STATE(CONFIG(command))


def store_settings(config: Path | None) -> StoreSettings:
    return load(config).store


def state_folder(state: Path | None) -> Path:
    return state or state_dir()


def opened_store(state: Path | None, config: Path | None) -> Store:
    return open_store(state_folder(state), store_settings(config))


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(plain_bytes(path), password=None)
    except (ValueError, TypeError) as err:
        raise StoreError(f"{path} is not a private key in PEM without a password") from err
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise StoreError(f"{path} is not a P-256 key: openssl ecparam -name prime256v1 -genkey -noout")
    return key
