"""Single sign-on: OpenID Connect, authorisation code with PKCE, by authlib and joserfc.

The site's own provider says who somebody is and in which groups; a file says which group has which role. The
account is known by issuer and subject, never by its name; its role follows the groups at every login.
"""

from __future__ import annotations

import re
import secrets
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.accounts.rights import ROLES, SCOPE
from sync.dashboard.accounts.sessions import Login, hashed
from sync.dashboard.errors import DashboardError, RefusedError
from sync.dashboard.schema import oidc_logins
from sync.dashboard.settings import LOOPBACK, DashboardSettings
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.registry.database.store import Store
from sync.toml_table import toml_table

MAX_FILE_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1 << 20
LIFE_MS = 10 * 60_000
"""How long a person may take to log in at the provider."""
KNOWN_MS = 3600_000
LEEWAY_S = 60
TIMEOUT_S = 10.0
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""Signatures only: `none`, and a secret that both sides know, are no proof of who signed."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a group of the provider may do here."""

    name: str
    role: str
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """The identity provider, as `oidc.toml` describes it."""

    issuer: str
    client_id: str
    groups: tuple[Group, ...]
    """The first of these that somebody is in counts."""
    client_secret: str = field(default="", repr=False)
    label: str = "single sign-on"
    claim: str = "groups"
    ca: Path | None = None
    scope: str = "openid profile"
    proxy: str | None = None
    """`http://HOST:PORT` on the way there; none is taken from the environment."""


def read_provider(path: Path) -> Provider:
    """Read a TOML file. Raises DashboardError that lists every mistake.

    `issuer`, `client_id`, `client_secret_file`, `label`, `claim`, `ca`, `scope`, `proxy`, and `[[group]]`
    tables with `name`, `role` and `tags`.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DashboardError(f"{path.name} is too large for a provider's description")
        table = toml_table(plain_text(path))
        secret_file = table.pop("client_secret_file", None)
        secret = plain_text(Path(path.parent, secret_file)).strip() if secret_file else ""
    except (OSError, ValueError, TypeError) as err:
        raise DashboardError(f"{path.name} cannot be read: {what_and_why(err)}") from err
    known = {"issuer", "client_id", "label", "claim", "ca", "scope", "proxy", "group"}
    mistakes = [f"{name} is none of {', '.join(sorted(known))}" for name in table if name not in known]
    texts = {name: table[name] for name in known - {"group"} if name in table}
    mistakes += [
        f"{name} is a text" for name, value in texts.items() if not isinstance(value, str) or not value
    ]
    mistakes += [f"{name} is missing" for name in ("issuer", "client_id") if name not in texts]
    groups, found = table.get("group", []), []
    for number, entry in enumerate(groups if isinstance(groups, list) else [], start=1):
        name, role, tags = (entry.get(key) for key in ("name", "role", "tags"))
        tags = tags if tags is not None else []
        if not isinstance(name, str) or not name or role not in ROLES:
            mistakes.append(f"group {number} needs a name, and a role of {', '.join(ROLES)}")
        elif not isinstance(tags, list) or not all(isinstance(t, str) and SCOPE.fullmatch(t) for t in tags):
            mistakes.append(f"group {number}: tags is a list of `site` or `site/zone`")
        else:
            found.append(Group(name, role, tuple(tags)))
    if not found:
        mistakes.append("no [[group]] gives anybody a role")
    if isinstance(texts.get("issuer"), str) and not _safe(texts["issuer"]):
        mistakes.append("issuer is an https address")
    if urllib.parse.urlsplit(str(texts.get("proxy", "http:"))).scheme != "http":
        mistakes.append("proxy is written http://HOST:PORT")
    if mistakes:
        raise DashboardError(f"{path.name}: {'; '.join(mistakes)}")
    ca = Path(path.parent, texts.pop("ca")) if "ca" in texts else None
    return Provider(**texts, groups=tuple(found), client_secret=secret, ca=ca)


class SingleSignOn:
    """Logs people in at `provider`. Nothing is asked of it before somebody wants to log in."""

    def __init__(
        self, store: Store, settings: DashboardSettings, accounts: Accounts, provider: Provider
    ) -> None:
        self._store = store
        self._settings = settings
        self._accounts = accounts
        self._provider = provider
        self._lock = threading.Lock()
        self._about: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_ms = 0

    @property
    def label(self) -> str:
        return self._provider.label

    @property
    def cookie(self) -> str:
        return "__Host-ostiary-oidc" if self._settings.secure else "ostiary-oidc"

    def begin(self, wanted: str, now_ms: int) -> tuple[str, str]:
        """(where to send the browser, what its cookie must bring back). Raises RefusedError."""
        about = self._describe(now_ms)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        with self._store.transaction() as db:
            db.execute(sa.delete(oidc_logins).where(oidc_logins.c.expires_ms < now_ms))
            values = {"nonce": nonce, "verifier": verifier, "wanted": wanted, "expires_ms": now_ms + LIFE_MS}
            db.execute(sa.insert(oidc_logins).values(state_hash=hashed(state), **values))
        with self._client() as client:
            address, _ = client.create_authorization_url(
                about["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
            )
        return str(address), state

    def finish(self, cookie: str | None, query: Mapping[str, str], now_ms: int) -> tuple[Login, str]:
        """(who may log in, the page they wanted) for the provider's answer. Raises RefusedError."""
        # 1. The answer belongs to a login that this very browser began, and to no other; it is used up.
        state = query.get("state", "")
        if not state or cookie != state:
            raise RefusedError("This login was not begun in this browser. Begin again.", 400)
        with self._store.transaction() as db:
            here = oidc_logins.c.state_hash == hashed(state)
            row = db.execute(sa.select(oidc_logins).where(here)).one_or_none()
            db.execute(sa.delete(oidc_logins).where(here))
        if row is None or row.expires_ms <= now_ms:
            raise RefusedError("This login took too long, or was used already. Begin again.", 400)
        if "code" not in query or len(query["code"]) > 4096:
            raise RefusedError("The identity provider did not log you in.", 403)
        # 2. RFC 9207: where the provider names itself, it is the right one.
        about = self._describe(now_ms)
        if query.get("iss", self._provider.issuer) != self._provider.issuer:
            raise RefusedError("Another identity provider answered. Begin again.", 400)
        # 3. The code is good with our verifier and our secret only.
        try:
            with self._client() as client:
                answer = client.fetch_token(
                    about["token_endpoint"], code=query["code"], code_verifier=row.verifier
                )
            encoded = answer["id_token"]
        except (AuthlibBaseError, httpx2.HTTPError, KeyError, ValueError, TypeError) as err:
            raise RefusedError(
                "The identity provider gave no token ({0}).", 502, type(err).__name__
            ) from None
        claims = self._claims(str(encoded), row.nonce, now_ms)
        # 4. Somebody in one of our groups.
        member = claims.get(self._provider.claim, [])
        mine = {member} if isinstance(member, str) else set(member) if isinstance(member, list) else set()
        group = next((group for group in self._provider.groups if group.name in mine), None)
        subject = f"{self._provider.issuer} {claims['sub']}"
        called = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
        role, scopes = (group.role, group.scopes) if group else (None, ())
        return self._accounts.enter(subject, _name(called), role, scopes, now_ms), row.wanted

    def _claims(self, encoded: str, nonce: str, now_ms: int) -> Mapping[str, Any]:
        """What a signed token says. OpenID Connect Core 3.1.3.7."""
        rules = jwt.JWTClaimsRegistry(
            now=now_ms // 1000,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._provider.issuer},
            aud={"essential": True, "value": self._provider.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        for again in (False, True):
            try:
                token = jwt.decode(encoded, self._keys_of(now_ms, again), algorithms=ALGORITHMS)
                rules.validate(token.claims)
            except (JoseError, ValueError) as err:
                # A key may be new: look once more.
                if again:
                    why = type(err).__name__
                    raise RefusedError("The identity provider's token is not good ({0}).", 403, why) from None
                continue
            audience = token.claims["aud"]
            other = isinstance(audience, list) and len(audience) > 1
            party = token.claims.get("azp", None if other else self._provider.client_id)
            if party != self._provider.client_id or not isinstance(token.claims["sub"], str):
                raise RefusedError("The identity provider's token is for somebody else.", 403)
            return token.claims
        raise RefusedError("The identity provider's token is not good.", 403)

    def _describe(self, now_ms: int) -> Mapping[str, Any]:
        """The provider's own description of itself. Raises RefusedError."""
        with self._lock:
            if now_ms - self._read_ms > KNOWN_MS or not self._about:
                found = self._get(self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration")
                wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
                if found.get("issuer") != self._provider.issuer:
                    raise RefusedError(
                        "The identity provider calls itself otherwise than oidc.toml does.", 502
                    )
                if any(not isinstance(found.get(name), str) or not _safe(found[name]) for name in wanted):
                    raise RefusedError("The identity provider's description is not complete.", 502)
                self._about, self._read_ms, self._keys = found, now_ms, None
            return self._about

    def _keys_of(self, now_ms: int, again: bool) -> KeySet:
        about = self._describe(now_ms)
        with self._lock:
            if self._keys is None or again:
                found = self._get(about["jwks_uri"])
                if not isinstance(found.get("keys"), list):
                    raise RefusedError("The identity provider shows no keys.", 502)
                self._keys = KeySet.import_key_set({"keys": found["keys"]})
            return self._keys

    def _get(self, address: str) -> dict[str, Any]:
        try:
            with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False, **self._way()) as client:
                answer = client.get(address)
            answer.raise_for_status()
            if len(answer.content) > MAX_ANSWER_BYTES:
                raise ValueError("too much")
            found = answer.json()
        except (httpx2.HTTPError, ValueError) as err:
            raise RefusedError(
                "The identity provider does not answer ({0}). Log in with a password, or try again.",
                502,
                type(err).__name__,
            ) from None
        if not isinstance(found, dict):
            raise RefusedError("The identity provider's answer cannot be read.", 502)
        return found

    def _client(self) -> Any:
        method = "client_secret_basic" if self._provider.client_secret else "none"
        return OAuth2Client(
            self._provider.client_id,
            self._provider.client_secret or None,
            token_endpoint_auth_method=method,
            scope=self._provider.scope,
            redirect_uri=f"{self._settings.origin}/login/oidc/back",
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
            **self._way(),
        )

    def _way(self) -> dict[str, Any]:
        """Whom to trust and what lies between: as configured, and nothing of the environment."""
        ca = self._provider.ca
        return {"trust_env": False, "proxy": self._provider.proxy, "verify": str(ca) if ca else True}


def _safe(address: str) -> bool:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _name(called: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", called.partition("@")[0].lower())[:32]
    return plain.strip("._-") or "somebody"
