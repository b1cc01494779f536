"""The settings of `ostiary dashboard serve`."""

from __future__ import annotations

import datetime as dt
import urllib.parse
import zoneinfo
from dataclasses import dataclass, field

from sync.dashboard.errors import DashboardError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """`origin` is the address that people type: scheme, host and port."""

    origin: str = "http://127.0.0.1:8080"
    time_zone: dt.tzinfo = field(default=dt.UTC)
    organisation: str = "Ostiary"
    bulk_rows: int = 10_000
    """An export of more events than this needs a second person."""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.origin)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or self.origin != f"{parts.scheme}://{parts.netloc}"
        ):
            raise DashboardError("the address is given as https://HOST or https://HOST:PORT, without a path")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise DashboardError(
                "plain http is for this machine alone; give a certificate, or a proxy's https address"
            )

    @property
    def host(self) -> str:
        """What a browser sends as Host."""
        return urllib.parse.urlsplit(self.origin).netloc

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https://")

    @property
    def cookie(self) -> str:
        # With the prefix a browser takes it over https only, for this host and no other.
        return "__Host-ostiary" if self.secure else "ostiary"


def time_zone(name: str) -> dt.tzinfo:
    """Raises DashboardError for a name that the machine does not know."""
    if name == "UTC":
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as err:
        raise DashboardError(f"there is no time zone {name!r} on this machine; Europe/Rome is one") from err
