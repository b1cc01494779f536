"""Writes the broker's configuration: mutual TLS, and each unit only under its own name."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path
from string import Template

from sync.errors import SyncError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

WORKER_RIGHTS = """
user worker-{number}
topic read ostiary/v1/+/+/events
topic read ostiary/v1/+/+/health
topic read ostiary/v1/+/+/results
topic read ostiary/v1/+/+/wants
topic read ostiary/v1/+/+/statements
topic read ostiary/v1/+/+/prints
topic write ostiary/v1/+/+/receipts
topic write ostiary/v1/+/+/commands
topic write ostiary/v1/+/+/desired
topic write ostiary/v1/+/+/parts
topic write ostiary/v1/+/+/kept
"""
BROKER_USER = "mosquitto"


def write_configuration(
    folder: Path,
    *,
    port: int,
    ca: Path,
    certificate: Path,
    key: Path,
    address: str,
    workers: int = 8,
    revoked: Path | None = None,
) -> Path:
    """Fill in the templates and copy the TLS files beside them; returns the path of mosquitto.conf.

    mosquitto reads `revoked`, the list of certificates that no longer count, where it lies at every reload.
    It gives up root before it reads its key, so root's files are given to its user. Raises SyncError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, name, mode in (
            (ca, "ca.pem", 0o644),
            (certificate, "broker.pem", 0o644),
            (key, "broker.key", 0o600),
        ):
            data = plain_bytes(source)
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
        rights = "".join(WORKER_RIGHTS.format(number=number) for number in range(1, workers + 1))
        values = {
            "port": str(port),
            "address": address,
            "folder": str(folder),
            "workers": rights,
            "revoked": f"crlfile {revoked}" if revoked else "",
        }
        for name in ("mosquitto.conf", "acl.conf"):
            text = resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
            (folder / name).write_text(Template(text).substitute(values), encoding="utf-8")
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, BROKER_USER)
    except LookupError as err:
        raise SyncError(f"there is no user {BROKER_USER}; install mosquitto first") from err
    except OSError as err:
        raise SyncError(f"the broker's configuration cannot be written: {what_and_why(err)}") from err
    return folder / "mosquitto.conf"
