"""Takes revoked units off the broker within seconds, and checks that the broker refuses them.

A list of revoked certificates is not enough: mosquitto keeps a connection that is open. So the guard writes
the list, has the broker read it, shows a certificate that only the new list names until it is refused, and
then throws the revoked units off by connecting under their names. A list that has run out would lock out
everybody: it is made anew every day, and a good certificate is shown to the broker all the time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sync.durable import replace_file
from sync.errors import SyncError
from sync.fleet.certificates import LIST_DAYS, Authority
from sync.fleet.provisioning.claims import milliseconds
from sync.fleet.provisioning.site import WATCHER, Site
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.registry.database.membership import Looked
from sync.registry.database.schema import certificates
from sync.registry.database.store import Store
from sync.registry.verification import Alarm
from sync.transport.mqtt import LinkSettings, Reactor, TlsFiles

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
IN_EFFECT_WITHIN_S = 20.0
KICKS_AT_ONCE = 4
FRESH_FOR = dt.timedelta(days=1)
_SHORT = dt.timedelta(hours=2)
NOBODY_THERE = "no broker listens on this machine"


@dataclass(slots=True)
class Guard:
    """Call `step` often, from one thread. `reload` makes the broker read its list again."""

    site: Site
    store: Store
    authority: Authority
    reload: Callable[[], None]
    now: Callable[[], dt.datetime]
    in_effect_within_s: float = IN_EFFECT_WITHIN_S
    _listed: frozenset[int] | None = None
    _kicked: frozenset[str] = frozenset()
    _made: dt.datetime | None = None
    _look_at: float = 0.0
    _trouble: str = ""
    _pending: list[str] = field(default_factory=list)

    def step(self) -> list[str]:
        """Bring the broker up to date; returns the units thrown off. Raises SyncError, and is tried again."""
        now = self.now()
        serials, names = self._revoked(now)
        stale = self._made is None or now - self._made > FRESH_FOR
        if serials != self._listed or stale:
            newly = names if self._listed is None else names - self._kicked
            self._pending = sorted({*self._pending, *newly})
            self._publish(serials, now)
            self._listed, self._made, self._kicked = serials, now, names
        gone = self._kick_all()
        if gone or time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._note(now, self.look())
        return gone

    def failed(self, why: str) -> None:
        """Note that the last step failed, and raise an alarm."""
        self._note(self.now(), why)

    def _revoked(self, now: dt.datetime) -> tuple[frozenset[int], frozenset[str]]:
        """(serial numbers for the list, names whose every certificate is on it)."""
        good = sa.func.sum(sa.case((certificates.c.revoked_ms.is_(None), 1), else_=0))
        alive = certificates.c.expires_ms > milliseconds(now)
        with self.store.reading() as db:
            revoked = sa.and_(alive, certificates.c.revoked_ms.is_not(None))
            serials = db.execute(sa.select(certificates.c.serial).where(revoked)).scalars().all()
            by_unit = sa.select(certificates.c.unit).where(alive).group_by(certificates.c.unit)
            names = db.execute(by_unit.having(good == 0)).scalars().all()
        return frozenset(int(serial, 16) for serial in serials), frozenset(names)

    def _publish(self, serials: frozenset[int], now: dt.datetime) -> None:
        """Write the list, and wait until the broker goes by it. Raises SyncError."""
        with self._certified("probe") as (files, probe):
            numbered = {*serials, probe.serial_number}
            data = self.authority.revocation_list(numbered, milliseconds(now), now)
            try:
                replace_file(self.site.revoked, data, 0o644)
            except OSError as err:
                raise SyncError(
                    f"the list of revoked certificates cannot be written: {what_and_why(err)}"
                ) from err
            self.reload()
            until = time.monotonic() + self.in_effect_within_s
            # A broker that is being started anew takes nobody either: it has read the list once it listens.
            while self._taken(files, "probe") or not self._listens():
                if time.monotonic() > until:
                    unread = "the broker does not read its list of revoked certificates; restart it"
                    raise SyncError(unread if self._listens() else NOBODY_THERE)
                time.sleep(0.2)

    def _kick_all(self) -> list[str]:
        """Throw off those that wait for it; returns them. Raises SyncError, and is tried again."""
        if not self._pending:
            return []
        with ThreadPoolExecutor(KICKS_AT_ONCE) as pool:
            kicks = [(unit, pool.submit(self._kick, unit)) for unit in self._pending]
        troubles = [(unit, trouble) for unit, kick in kicks if (trouble := kick.exception()) is not None]
        stays = [unit for unit, _ in troubles]
        gone = [unit for unit in self._pending if unit not in stays]
        self._pending = stays
        if troubles:
            raise troubles[0][1]
        return gone

    def _kick(self, unit: str) -> None:
        """Connect under the unit's name: the broker ends the connection that there was."""
        with self._certified(unit) as (files, _):
            if not self._taken(files, unit):
                raise SyncError(
                    f"{unit} cannot be thrown off: the broker does not take our certificate for it"
                )
        log.warning("%s was thrown off the broker", unit)

    def look(self) -> str:
        """What is wrong with the broker as units see it; '' when nothing is."""
        if not self._listens():
            return NOBODY_THERE
        with self._certified(WATCHER) as (files, _):
            if self._taken(files, WATCHER):
                return ""
        return "the broker refuses good certificates: units cannot connect; look at its log, and at its list"

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.site.broker_port), timeout=5).close()
        except OSError:
            return False
        return True

    def _note(self, now: dt.datetime, trouble: str) -> None:
        until = (self._made or now) + dt.timedelta(days=LIST_DAYS if self._made else 0)
        looked = Looked(milliseconds(now), milliseconds(until), len(self._listed or ()), trouble)
        with self.store.transaction() as db:
            looked.write(db)
            if trouble and trouble != self._trouble:
                log.error("%s", trouble)
            if trouble:
                alarm = Alarm(
                    "REVOCATION_IN_TROUBLE", "critical", None, f"REVOCATION {trouble}", {"why": trouble}
                )
                self.store.raise_alarms(db, [alarm], looked.checked_ms)
        self._trouble = trouble

    def _taken(self, files: TlsFiles, name: str) -> bool:
        """Whether the broker lets this certificate in."""
        reactor = Reactor()
        try:
            asked = LinkSettings("127.0.0.1", self.site.broker_port, name, files, trial=True)
            link = reactor.link(asked)
            until = time.monotonic() + 5
            while not link.connected and not link.failures and time.monotonic() < until:
                reactor.poll(0.05)
            return link.connected
        finally:
            reactor.close()

    @contextlib.contextmanager
    def _certified(self, name: str) -> Iterator[tuple[TlsFiles, x509.Certificate]]:
        """A certificate for `name` that is good for two hours, and gone afterwards."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self.authority.sign(key.public_key(), name, self.now(), lasts=_SHORT)
        with tempfile.TemporaryDirectory(prefix="ostiary-guard-") as made:
            folder = Path(made)
            certificate, private = folder / "certificate.pem", folder / "key.pem"
            certificate.write_bytes(self.authority.chained(signed))
            private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            yield TlsFiles(self.site.pki() / "ca.pem", certificate, private), signed


def reload_by_pid(path: Path) -> Callable[[], None]:
    """Send SIGHUP to the process whose number is in `path`: for a broker that somebody runs by hand.

    It does nothing where there is no such file, or where the broker is another user's: there systemd starts
    it anew, for a reload can crash it (ADR 85). The guard checks afterwards that the broker reads its list.
    """

    def reload() -> None:
        try:
            os.kill(int(plain_text(path)), signal.SIGHUP)
        except (FileNotFoundError, PermissionError):
            return
        except (OSError, ValueError) as err:
            raise SyncError(f"the broker cannot be told to reload ({path}): {what_and_why(err)}") from err

    return reload
