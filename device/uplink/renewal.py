"""The next certificate in time, and as well when the time was missed: a unit that was away for months."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from device.errors import DeviceError
from device.uplink.network import Place
from sync.errors import SyncError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3600.0
AGAIN_AFTER_S = 60.0


@dataclass(slots=True)
class Renewal:
    """`renew` asks the site, keeps what it gives and has TLS show it. Time comes in as arguments."""

    place: Place
    renew: Callable[[Place], Place]
    _next_s: float = 0.0

    def step(self, now: datetime, monotonic_s: float, connected: bool) -> bool:
        """Renew if it is time; True when there is a new certificate.

        An hour lies between looks, a minute while there is no connection and the certificate is due. What
        fails is tried again: the certificate that there is goes on until it ends, and the door without any.
        """
        if monotonic_s < self._next_s:
            return False
        due = self.place.due(now)
        self._next_s = monotonic_s + (AGAIN_AFTER_S if due and not connected else LOOK_EVERY_S)
        if not due:
            return False
        try:
            self.place = self.renew(self.place)
        except (DeviceError, SyncError) as err:
            log.warning(
                "the certificate is not renewed yet (%.0f days left): %s", self.place.days_left(now), err
            )
            return False
        log.warning("the certificate was renewed until %s", self.place.certificate().not_valid_after_utc)
        return True
