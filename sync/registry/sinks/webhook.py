"""Alarms to an address of the web."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sync.errors import SyncError
from sync.registry.sinks.trust import LOCAL, SIGNATURE, secret, sign, trusting


class _StayHere(urllib.request.HTTPRedirectHandler):
    """An alarm, and the token beside it, go to the address that was configured and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs an alarm as JSON. `Idempotency-Key` lets the other side drop a second delivery."""

    name: str
    url: str = field(repr=False)
    token_file: Path | None = None
    """Holds a bearer token; read at every delivery, so that it can be replaced."""
    secret_file: Path | None = None
    """Signs each message: the header `Ostiary-Signature`."""
    ca: Path | None = None
    proxy: str = ""
    """`http://HOST:PORT` on the way there; none is taken from the environment."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        local = parts.hostname in LOCAL
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise SyncError(f"the webhook {self.name} must be an https address")
        if self.proxy and urllib.parse.urlsplit(self.proxy).scheme != "http":
            raise SyncError(f"the proxy of the webhook {self.name} is written http://HOST:PORT")

    def send(self, alarm: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"ostiary-alarm-{alarm['id']}"}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {secret(self.token_file)}"
        body = json.dumps(alarm).encode()
        if self.secret_file is not None:
            headers[SIGNATURE] = sign(self.secret_file, body, int(time.time()))
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - see above
        tls = urllib.request.HTTPSHandler(context=trusting(self.ca))
        ways = {"http": self.proxy, "https": self.proxy} if self.proxy else {}
        try:
            urllib.request.build_opener(_StayHere, tls, urllib.request.ProxyHandler(ways)).open(
                request, timeout=self.timeout_s
            ).close()
        except urllib.error.HTTPError as err:
            raise SyncError(f"the webhook {self.name} answered {err.code}") from None
        except (urllib.error.URLError, OSError, HTTPException, ValueError) as err:
            # Not the error's own words: some of them repeat the address.
            why = getattr(err, "reason", err)
            raise SyncError(f"the webhook {self.name} cannot be reached ({type(why).__name__})") from None
