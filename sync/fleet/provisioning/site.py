"""A site's folder: authority, keys, the broker's configuration, addresses."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sync.broker import write_configuration
from sync.durable import replace_file
from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

WATCHER = "guard"
"""The name that the service itself has at the broker; it has no rights there."""
_FACTS = "site.json"


@dataclass(frozen=True, slots=True)
class Site:
    """`host` is what units call this machine; `listen` the address it listens on."""

    folder: Path
    name: str
    host: str
    listen: str
    broker_port: int
    claims_port: int

    @classmethod
    def open(cls, folder: Path) -> Site:
        """Raises SyncError where `make` has made none."""
        try:
            return cls(folder=folder, **json.loads(plain_bytes(folder / _FACTS)))
        except FileNotFoundError as err:
            raise SyncError(f"there is no site in {folder}; `ostiary fleet init` makes one") from err
        except (OSError, ValueError, TypeError) as err:
            raise SyncError(f"{folder / _FACTS} cannot be read: {what_and_why(err)}") from err

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.broker_port}"

    @property
    def revoked(self) -> Path:
        """The list of certificates that no longer count, where the broker reads it."""
        return self.folder / "revoked" / "list.pem"

    def pki(self) -> Path:
        return self.folder / "pki"

    def authority(self, now: dt.datetime) -> Authority:
        return Authority.open(self.pki(), now)

    def root(self) -> bytes:
        """The root certificate (PEM)."""
        return plain_bytes(self.pki() / "ca.pem")

    def pin(self) -> bytes:
        """SHA-256 of the root certificate, 32 bytes: a claim names the site by it."""
        return x509.load_pem_x509_certificate(self.root()).fingerprint(hashes.SHA256())

    def public_key(self, name: str) -> bytes:
        """`receipts` or `commands` (PEM)."""
        return plain_bytes(self.folder / f"{name}.pem")

    def policy_authority(self) -> bytes:
        """The key that approves machine states (PEM); empty where the desk has put none."""
        path = self.folder / "policy-authority.pem"
        return plain_bytes(path) if path.exists() else b""


def make(
    folder: Path,
    root_folder: Path,
    name: str,
    *,
    host: str,
    listen: str,
    broker_port: int,
    claims_port: int,
    workers: int,
    now: dt.datetime,
) -> Site:
    """A site from nothing. Raises SyncError where there is one already."""
    unit_id(f"{name}/unit")
    site = Site(folder, name, host, listen, broker_port, claims_port)
    authority = Authority.make_site(site.pki(), root_folder, name, now)
    hosts = tuple(dict.fromkeys((host, "localhost", "127.0.0.1")))
    broker = authority.issue("broker", now, hosts)
    for number in range(1, workers + 1):
        authority.issue(f"worker-{number}", now)
    for key in ("receipts", "commands"):
        signer = FileSigner.create(folder / f"{key}.key")
        (folder / f"{key}.pem").write_bytes(signer.public_pem())
    try:
        site.revoked.parent.mkdir(exist_ok=True)
        for passage in (folder, site.revoked.parent):  # the broker's user reads the list, and no key
            passage.chmod(0o711)
        replace_file(site.revoked, authority.revocation_list((), 0, now), 0o644)
        write_configuration(
            folder / "broker",
            port=broker_port,
            ca=broker.ca,
            certificate=broker.certificate,
            key=broker.key,
            address=listen,
            workers=workers,
            revoked=site.revoked,
        )
        facts = {key: value for key, value in asdict(site).items() if key != "folder"}
        replace_file(folder / _FACTS, json.dumps(facts, indent=1).encode(), 0o644)  # last: now it is whole
    except OSError as err:
        raise SyncError(f"the site cannot be written: {what_and_why(err)}") from err
    return site
