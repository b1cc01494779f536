"""Why there is no connection to the broker, in one line that says what to do. Pure.

A certificate that ran out, a clock of 1970, a wrong authority, a wrong name, no broker and an unknown name
look alike from far away: events wait. Each has its own remedy.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from errno import EHOSTUNREACH, ENETUNREACH
from typing import Self

from cryptography import x509

from sync import plain_words
from sync.errors import SyncError

REMIND_DAYS = 20
"""From here on somebody is reminded; a certificate that renews itself never has so little left."""
CUT = "the connection was cut while it was made; check the port, and the broker's log"
HUNG_UP = "the broker does not take us; check whether our certificate has run out, and its log"
OTHER_LANGUAGE = "what answers there speaks no MQTT 5; check the port, and which broker runs there"
NO_ANSWER = "no answer came in time; check the address, the cable and the firewall"
RENEW = "renew it: `ostiary fleet certificate ... --renew`, or the claim service where a unit was provisioned"

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _HAS_EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
_OTHER_AUTHORITY = frozenset({2, 18, 19, 20, 21})

_ALERTS = (
    ("CERTIFICATE_EXPIRED", f"the broker says that our certificate has run out; {RENEW}, and compare clocks"),
    ("CERTIFICATE_REVOKED", "our certificate was revoked; the people who run the site know why"),
    (
        "UNKNOWN_CA",
        "the broker does not trust the authority of our certificate; take one of its own authority",
    ),
    ("BAD_CERTIFICATE", f"the broker does not accept our certificate; {RENEW}"),
    ("CERTIFICATE_UNKNOWN", f"the broker does not accept our certificate; {RENEW}"),
    ("ALERT_PROTOCOL_VERSION", "the broker speaks no TLS 1.3; have it updated, or its settings changed"),
    ("UNSUPPORTED_PROTOCOL", "the broker speaks no TLS 1.3; have it updated, or its settings changed"),
    ("WRONG_VERSION_NUMBER", "what answers there speaks no TLS; check the port"),
    ("UNEXPECTED_MESSAGE", "what answers there speaks no TLS; check the port"),
    ("UNEXPECTED_EOF", CUT),
    ("CERTIFICATE_REQUIRED", "the broker wants a certificate, and none was shown; give --cert and --key"),
)
"""TLS alerts of the broker: a part of OpenSSL's name for each, and the sentence."""
_NO_ENTRY = "the broker knows our certificate and lets us in nowhere; check this unit's name on its list"
_NO_ROOM = "the broker has no room for us now; it is tried again, and its log says why"
_MOVED = "the broker sends us to another one; ask the people who run the site for its address"
_REFUSALS = {
    0x84: OTHER_LANGUAGE,
    0x85: "the broker refuses this unit's name as a client's; check its list of names, and --unit",
    **dict.fromkeys((0x86, 0x87), _NO_ENTRY),
    **dict.fromkeys((0x88, 0x89, 0x97, 0x9F), _NO_ROOM),
    0x8A: "the broker has banned this unit; the people who run the site know why",
    0x8C: "the broker wants another way to say who we are than a certificate; check its settings",
    **dict.fromkeys((0x9C, 0x9D), _MOVED),
}
"""Reason codes of a CONNACK (MQTT 5, 3.2.2.2), and the sentence."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a certificate is valid."""

    begins: datetime
    ends: datetime

    @classmethod
    def of(cls, pem: bytes) -> Self:
        """Of the first certificate in `pem`. Raises SyncError."""
        try:
            found = x509.load_pem_x509_certificate(pem)
        except ValueError as err:
            raise SyncError("this machine's certificate cannot be read; renew it") from err
        return cls(found.not_valid_before_utc, found.not_valid_after_utc)

    def days_left(self, now: datetime) -> float:
        """Negative when it has run out."""
        return (self.ends - now) / timedelta(days=1)

    def trouble(self, now: datetime) -> str:
        """Why it is not valid at `now`, or soon will not be; empty when all is well."""
        if now < self.begins:
            return (
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and our certificate begins on "
                f"{self.begins:%Y-%m-%d}; set the clock"
            )
        left = self.days_left(now)
        if left <= 0:
            return (
                f"our certificate ran out on {self.ends:%Y-%m-%d}, and this machine's clock says "
                f"{now:%Y-%m-%d}; {RENEW}, or set the clock"
            )
        if left < REMIND_DAYS:
            return f"our certificate ends in {left:.0f} days, on {self.ends:%Y-%m-%d}; {RENEW}"
        return ""

    def good(self, now: datetime) -> bool:
        return self.begins <= now < self.ends


def why(err: OSError | ValueError, host: str, now: datetime) -> str:
    """What to do about the error of one try to connect to `host`."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return _not_believed(err, host, now)
    if isinstance(err, ssl.SSLError):
        return refused(str(err)) or (
            f"{plain_words.why(err)}; check the port, and whether certificates have run out"
        )
    if isinstance(err, socket.gaierror):
        return f"the name {host} cannot be looked up; check --broker and this machine's name server"
    if isinstance(err, ConnectionRefusedError):
        return "nothing listens there; check the port, and whether the broker runs"
    if isinstance(err, TimeoutError):
        return NO_ANSWER
    if isinstance(err, OSError) and err.errno in (ENETUNREACH, EHOSTUNREACH):
        return f"there is no way to {host} from here; check the cable and this machine's network"
    if isinstance(err, ConnectionError):
        return CUT
    if isinstance(err, UnicodeError):  # of Python, which makes no DNS name of it
        return f"the name {host} is none that can be looked up; check --broker"
    return str(err) or type(err).__name__


def turned_away(code: int, name: str) -> str:
    """The sentence for the reason with which a broker answers that it does not take us."""
    return _REFUSALS.get(code, f"the broker refuses us ({name}); its log says why")


def refused(text: str) -> str:
    """The sentence for the TLS alert that OpenSSL's text names; empty when it names none."""
    upper = text.upper().replace(" ", "_")
    return next((sentence for name, sentence in _ALERTS if name in upper), "")


def _not_believed(err: ssl.SSLCertVerificationError, host: str, now: datetime) -> str:
    code = err.verify_code
    if code in _OTHER_NAME:
        return (
            f"the broker's certificate is of another name than {host}; give --broker the name that it is of"
        )
    if code in _OTHER_AUTHORITY:
        return (
            "the broker's certificate is of an authority that --ca does not hold; check --ca and the address"
        )
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if code == _HAS_EXPIRED:
        return f"the broker's certificate has run out ({clock}); renew it there, or set the clock here"
    if code == _NOT_YET_VALID:
        return f"the broker's certificate is not good yet ({clock}); set the clock"
    return f"the broker's certificate is not trusted ({err.verify_message}); check --ca and the broker's name"
