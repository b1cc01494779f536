"""A provisioned unit's network: the blob of its TLS key, its certificate, its site.

Two files, each replaced whole, also when the unit is killed. Nothing in them is secret: the blob is useless
without this TPM.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device.errors import DeviceError
from device.state_folder import StateFolder
from sync.durable import replace_file
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

MAX_FILE_BYTES = 128 * 1024
_KEYS, _PLACE = "keys.json", "place.json"
_MODE = 0o640  # the door's and the uplink's group


@dataclass(frozen=True, slots=True)
class Place:
    """A unit's place at a site. Certificates and keys are PEM; `claims` is the service's HOST:PORT."""

    unit: str
    door: str
    broker: str
    claims: str
    root: str
    certificates: str
    receipts_key: str
    command_key: str
    tpm: str
    """The site's name for this TPM: SHA-256 of its endorsement key's public area, hex."""

    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificates.encode())

    def days_left(self, now: datetime) -> float:
        return (self.certificate().not_valid_after_utc - now) / timedelta(days=1)

    def due(self, now: datetime) -> bool:
        """Whether a third or less of the certificate's life is left."""
        found = self.certificate()
        lasts = found.not_valid_after_utc - found.not_valid_before_utc
        return found.not_valid_after_utc - now <= lasts / 3

    def renewed(self, certificates: bytes) -> Place:
        return replace(self, certificates=certificates.decode())


class Network:
    """The folder with those files."""

    def __init__(self, state: Path) -> None:
        self.folder = StateFolder(state).network

    def key_file(self) -> dict[str, str] | None:
        """The TPM's blob of the TLS key, for `tpm_tls`; None without one."""
        path = self.folder / _KEYS
        return _read(path) if path.exists() else None

    def save_key_file(self, table: dict[str, str]) -> None:
        self._write(self.folder / _KEYS, table)

    def place(self) -> Place | None:
        """The unit's place; None before it was provisioned. Raises DeviceError for a damaged file."""
        path = self.folder / _PLACE
        if not path.exists():
            return None
        try:
            found = Place(**_read(path))
            found.certificate()
        except (TypeError, ValueError, AttributeError) as err:
            raise DeviceError(f"{path} is damaged; provision the unit again") from err
        return found

    def save(self, place: Place) -> None:
        self._write(self.folder / _PLACE, asdict(place))

    def _write(self, path: Path, table: dict[str, str]) -> None:
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            replace_file(path, json.dumps(table, indent=1).encode(), _MODE)
        except OSError as err:
            raise DeviceError(f"{path} cannot be written ({what_and_why(err)}); see to that disk") from err


def trusting(root: str) -> ssl.SSLContext:
    """TLS 1.3 that trusts the site's root (PEM) and checks host names. Raises DeviceError."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=root)
    except (ssl.SSLError, ValueError) as err:
        raise DeviceError("the site's root certificate cannot be read; provision the unit again") from err
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def fingerprint_bytes(root: str) -> bytes:
    """DER of the first certificate in `root` (PEM). Raises DeviceError."""
    try:
        return x509.load_pem_x509_certificate(root.encode()).public_bytes(Encoding.DER)
    except ValueError as err:
        raise DeviceError("the claim service sent no certificate") from err


def _read(path: Path) -> dict[str, str]:
    try:
        table = json.loads(plain_bytes(path, MAX_FILE_BYTES))
    except (OSError, ValueError) as err:
        raise DeviceError(f"{path} cannot be read: {what_and_why(err)}") from err
    if not isinstance(table, dict):
        raise DeviceError(f"{path} is damaged; provision the unit again")
    return table
