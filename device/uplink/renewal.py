"""Renews the unit's certificate in time, and also after the unit was away for months."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from device.errors import DeviceError
from device.uplink.network import Place
from sync.errors import SyncError
from sync.transport.connecting import Validity

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3600.0
REMIND_EVERY_S = 86_400.0
AGAIN_AFTER_S = 60.0


@dataclass(slots=True)
class Renewal:
    """Renews by `renew`, which asks the site, keeps its certificate and has TLS show it."""

    place: Place
    renew: Callable[[Place], Place]
    back: Callable[[Place], Place | None] = lambda _: None
    """Registers again at a site that has lost its registry; None where it knows this unit."""
    _next_s: float = 0.0
    _connected: bool = True
    _told: str = ""

    def step(self, now: datetime, monotonic_s: float, connected: bool) -> bool:
        """Renew if it is time; True when there is a new certificate.

        It looks once an hour, or once a minute without a connection while the certificate is due. A failed
        renewal is tried again; until then the present certificate serves, and the door needs none.
        """
        if connected and not self._connected:
            self._next_s = 0.0  # a broker that was away may have another registry behind it
        self._connected = connected
        if monotonic_s < self._next_s:
            return False
        due = self.place.due(now)
        self._next_s = monotonic_s + (AGAIN_AFTER_S if due and not connected else LOOK_EVERY_S)
        if not due:
            return connected and self._come_back(monotonic_s)
        try:
            self.place = self.renew(self.place)
        except (DeviceError, SyncError) as err:
            log.warning(
                "the certificate is not renewed yet (%.0f days left): %s", self.place.days_left(now), err
            )
            return False
        log.warning("the certificate was renewed until %s", self.place.certificate().not_valid_after_utc)
        return True

    def _come_back(self, monotonic_s: float) -> bool:
        try:
            found = self.back(self.place)
        except (DeviceError, SyncError) as err:
            # The claim service may start after the broker, and a desk may need its time to begin a recovery.
            self._next_s = monotonic_s + AGAIN_AFTER_S
            if str(err) != self._told:
                log.warning("the site cannot be asked whether it knows this unit: %s", err)
            self._told = str(err)
            return False
        self._told = ""
        if found is None:
            return False
        self.place = found
        log.warning("the site had lost this unit and knows it again")
        return True


@dataclass(slots=True)
class Reminder:
    """Warns once a day of a certificate that ends soon, or has ended."""

    until_ms: int = 0
    """When it ends, Unix time; 0 while unknown."""
    _look_at_s: float = field(default=0.0)
    _remind_at: datetime | None = None

    def due(self, monotonic_s: float) -> bool:
        """Whether to look again: at most once a minute, since the certificate may be read from a file."""
        if monotonic_s < self._look_at_s:
            return False
        self._look_at_s = monotonic_s + AGAIN_AFTER_S
        return True

    def look(self, validity: Validity | None, now: datetime) -> str:
        """Check the certificate in use; returns the warning it logged, empty for none."""
        self.until_ms = 0 if validity is None else int(validity.ends.timestamp() * 1000)
        trouble = validity.trouble(now) if validity is not None and now >= validity.begins else ""
        if not trouble:
            self._remind_at = None
            return ""
        if self._remind_at is not None and now < self._remind_at:
            return ""
        self._remind_at = now + timedelta(seconds=REMIND_EVERY_S)
        log.warning("%s", trouble)
        return trouble
