"""Short-lived scoped bearer tokens, signed with a key that only this unit's store can derive.

A token is `ost1.PAYLOAD.MAC`, both parts base64url without padding. There is no algorithm to choose and no
key id to follow. It can be tied to a client certificate (RFC 8705), and then works over that one alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field

from device.api.errors import (
    BAD_TOKEN,
    EXPIRED_TOKEN,
    NO_TOKEN,
    WRONG_CERTIFICATE,
    WRONG_SCOPE,
    ApiError,
    ProblemError,
)
from device.secure_store.signing import Mac

SCOPES = ("otp", "register", "verify", "results")
MAX_TOKEN_CHARS = 2048
_PREFIX = "ost1"
_PURPOSE = "api token"
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """Who may do what until when. `certificate` is the SHA-256 of a client certificate, or empty."""

    client: str
    scopes: frozenset[str]
    issued_s: int
    expires_s: int
    certificate: str = ""
    token_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        if not _CLIENT.fullmatch(self.client):
            raise ApiError("a client's name is 1 to 64 letters, digits, dots, dashes and underscores")
        if not self.scopes or not self.scopes <= set(SCOPES):
            raise ApiError(f"scopes are some of {', '.join(SCOPES)}, at least one")
        if self.expires_s <= self.issued_s:
            raise ApiError("a token must be valid for some time")


def issue(token: Token, mac: Mac) -> str:
    """`token` as the string a caller sends."""
    table = {
        "sub": token.client,
        "scope": sorted(token.scopes),
        "iat": token.issued_s,
        "exp": token.expires_s,
        "jti": token.token_id,
        "x5t": token.certificate,
    }
    payload = _encode(json.dumps(table, separators=(",", ":")).encode())
    return f"{_PREFIX}.{payload}.{_encode(mac(_PURPOSE, payload.encode()))}"


def authenticate(
    header: str | None, scope: str, mac: Mac, *, now_s: float, certificate: str = "", max_life_s: float
) -> Token:
    """The token in an Authorization header, when it is good for `scope`; raises ProblemError otherwise."""
    # 1. One bearer token of a sane size.
    if header is None:
        raise ProblemError(NO_TOKEN, "send `Authorization: Bearer TOKEN`; `ostiary api token` issues one")
    kind, _, text = header.partition(" ")
    if kind.lower() != "bearer" or not text.isascii() or len(text) > MAX_TOKEN_CHARS:
        raise ProblemError(BAD_TOKEN, "this is no bearer token of this unit")
    # 2. Signed by this unit; nothing in it is looked at before.
    prefix, _, rest = text.strip().partition(".")
    payload, _, signature = rest.partition(".")
    if prefix != _PREFIX or not hmac.compare_digest(_encode(mac(_PURPOSE, payload.encode())), signature):
        raise ProblemError(BAD_TOKEN, "this unit did not issue this token")
    try:
        table = json.loads(_decode(payload))
        token = Token(
            table["sub"],
            frozenset(table["scope"]),
            table["iat"],
            table["exp"],
            table["x5t"],
            table["jti"],
        )
    except (ValueError, KeyError, TypeError, binascii.Error, ApiError) as err:
        raise ProblemError(BAD_TOKEN, "this token holds what this unit does not understand") from err
    # 3. In its time. A clock set back does not stretch a life beyond the longest one allowed.
    if now_s >= token.expires_s or now_s < token.issued_s - 60:
        raise ProblemError(EXPIRED_TOKEN, "ask for a new token")
    if token.expires_s - token.issued_s > max_life_s:
        raise ProblemError(BAD_TOKEN, "this token lives longer than this unit now allows")
    # 4. Over the connection it was made for.
    if token.certificate and not hmac.compare_digest(token.certificate, certificate):
        raise ProblemError(WRONG_CERTIFICATE, "use the client certificate the token was issued for")
    # 5. For this.
    if scope not in token.scopes:
        raise ProblemError(WRONG_SCOPE, f"this needs the scope `{scope}`")
    return token


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
