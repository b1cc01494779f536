"""The broker's configuration, as templates: mutual TLS, and each unit only under its own name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from sync.errors import SyncError


def write_configuration(
    folder: Path,
    *,
    port: int,
    ca: Path,
    certificate: Path,
    key: Path,
    address: str = "0.0.0.0",  # noqa: S104
) -> Path:
    """Fill in the templates; returns the path of mosquitto.conf. Raises SyncError."""
    values = {
        "port": str(port),
        "address": address,
        "ca": str(ca),
        "certificate": str(certificate),
        "key": str(key),
        "folder": str(folder),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("mosquitto.conf", "acl.conf"):
            text = resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
            (folder / name).write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as err:
        raise SyncError(f"the broker's configuration cannot be written: {err}") from err
    return folder / "mosquitto.conf"
