"""What all pages share: sessions, rights, forms, templates, headers, errors."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import logging
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, Protocol

import jinja2
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.accounts.oidc import SingleSignOn
from sync.dashboard.accounts.passkeys import Passkeys
from sync.dashboard.accounts.rights import ROLE_NAMES, ROLES, Right, Viewer
from sync.dashboard.accounts.sessions import Sessions
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.settings import DashboardSettings
from sync.dashboard.site.names import NameBook
from sync.dashboard.wording import drawing, languages, words
from sync.errors import SyncError
from sync.events import Signer
from sync.registry.database.store import Store, StoreError

log = logging.getLogger(__name__)

MAX_FORM_BYTES = 64 * 1024
FIELDS = {
    "account": "account", "finding": "what was found", "name": "name", "note": "note", "site": "site",
    "sponsor": "sponsor", "tags": "tags", "text": "what the next shift should know", "what": "what for",
    "why": "reason", "zone": "zone",
}  # fmt: skip
"""What the fields of forms are called where one is refused."""
THEME_COOKIE = "theme"
LANGUAGE_COOKIE = "language"
GONE = "The registry's database does not answer. Nothing was lost; try again in a moment."
FAILED = "This page failed. The log of the dashboard says why."
STATIC = resources.files("sync.dashboard").joinpath("static")


class Daily(Protocol):
    """Something that looks once a minute whether it is due."""

    def step(self, now_ms: int) -> object: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What every page may use: the store, the accounts, the settings, and what this site has besides."""

    store: Store
    settings: DashboardSettings
    accounts: Accounts
    sessions: Sessions
    now_ms: Callable[[], int]
    passkeys: Passkeys
    names: NameBook | None = None
    """Whose pseudonym is whose; None where the site keeps that elsewhere."""
    signer: Signer | None = None
    """Signs commands to units; None where this page must not command."""
    reports: Daily | None = None
    """Mails yesterday's numbers; None where nobody asked for them."""
    sign_on: SingleSignOn | None = None
    """The site's identity provider; None where everybody has a password or a passkey here."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request by somebody who is logged in and may make it."""

    backend: Backend
    viewer: Viewer
    request: Request
    now_ms: int
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def path(self) -> Mapping[str, str]:
        return self.request.path_params

    @property
    def zone(self) -> dt.tzinfo:
        return self.backend.settings.time_zone

    def note(self, action: str, subject: str, rows: int = 1) -> None:
        """On record, before anything is shown."""
        journal.record(self.backend.store, self.viewer.account, action, subject, self.now_ms, rows=rows)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        rights = {"can_prove": self.viewer.may(Right.PROOFS), "may_export": self.viewer.may(Right.EXPORT)}
        shared = {"viewer": self.viewer, "now_ms": self.now_ms, **rights}
        return render(self.backend, self.request, template, status, **shared, **values)

    def text(self, name: str, most: int, *, needed: bool = True) -> str:
        """A field of the form. Raises RefusedError when it is missing or too long."""
        value = self.form.get(name, "").strip()
        if needed and not value:
            raise RefusedError("Please fill in: {0}.", 400, FIELDS[name])
        if len(value) > most or any(ord(c) < 32 and c not in "\r\n\t" for c in value):
            raise RefusedError(
                "Too long, or no text: {0} has at most {1} characters.", 400, FIELDS[name], most
            )
        return value

    def tags(self) -> list[str]:
        """The tags that were typed, between blanks and commas. Raises RefusedError."""
        return [tag for tag in re.split(r"[\s,]+", self.text("tags", 400, needed=False)) if tag]

    def moment(self, name: str) -> int:
        """A field of date and minute in the page's time zone, as milliseconds. Raises RefusedError."""
        try:
            found = dt.datetime.strptime(self.form.get(name, ""), "%Y-%m-%dT%H:%M")
        except ValueError as err:
            raise RefusedError("Say until when: a day and an hour.") from err
        return int(found.replace(tzinfo=self.zone).timestamp() * 1000)

    def number(self, name: str) -> int:
        value = self.path.get(name) or self.form.get(name, "")
        if not value.isascii() or not value.isdigit() or len(value) > 16:
            raise not_found()
        return int(value)


NAV: tuple[tuple[str, tuple[tuple[str, str, Right], ...]], ...] = (
    (
        "Now",
        (
            ("/doors", "Doors", Right.DOORS),
            ("/events", "Events", Right.EVENTS),
            ("/incidents", "Incidents", Right.INCIDENTS),
            ("/lockdown", "Lock-down", Right.LOCK_DOWN),
            ("/muster", "Roll call", Right.MUSTER),
            ("/handover", "Hand-over", Right.WORK),
            ("/rooms", "Sensitive rooms", Right.MUSTER),
            ("/visits", "Temporary people", Right.VISITS),
        ),
    ),
    (
        "Look into",
        (
            ("/attacks", "Attacks", Right.ATTACKS),
            ("/health-of-units", "Units and models", Right.HEALTH),
        ),
    ),
    (
        "Prove",
        (
            ("/proofs", "Proofs", Right.PROOFS),
            ("/review", "Daily review", Right.REVIEW),
            ("/emergency", "Emergency access", Right.REVIEW),
            ("/ledger", "Biometric ledger", Right.REVIEW),
            ("/journal", "Journal", Right.JOURNAL),
        ),
    ),
    (
        "Manage",
        (
            ("/approvals", "Second person", Right.APPROVE),
            ("/accounts", "Accounts", Right.ACCOUNTS),
            ("/tokens", "Tokens", Right.ACCOUNTS),
        ),
    ),
)
"""The menu: heading, then address, label, and the right that a page needs."""

Handler = Callable[[Call], Response]


def guarded(handler: Handler, right: Right | None) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for accounts with `right`; None: for every account that is logged in."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        backend: Backend = request.app.state.backend
        form = await read_form(request) if request.method == "POST" else {}
        return await run_in_threadpool(_answer, backend, request, form, handler, right)

    return endpoint


def _answer(
    backend: Backend, request: Request, form: Mapping[str, str], handler: Handler, right: Right | None
) -> Response:
    now_ms = backend.now_ms()
    choose_language(request)
    viewer = viewer_of(backend, request)
    if viewer is None:
        if request.method == "POST":
            raise RefusedError("Your session has ended. Log in and do it again.", 401)
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect(f"/login?{urllib.parse.urlencode({'next': wanted})}")
    if right is not None and not viewer.may(right):
        raise RefusedError("Your account may not do this. An administrator can change that.", 403)
    if request.method == "POST" and not hmac.compare_digest(
        form.get("csrf", "").encode(), viewer.csrf.encode()
    ):
        raise RefusedError("This form is too old or came from another page. Open it again.", 403)
    return handler(Call(backend, viewer, request, now_ms, form))


def viewer_of(backend: Backend, request: Request, *, touch: bool = True) -> Viewer | None:
    return backend.sessions.viewer(
        request.cookies.get(backend.settings.cookie), backend.now_ms(), touch=touch
    )


def signer_of(call: Call) -> Signer:
    """What signs commands. Raises RefusedError where this page must not command."""
    if call.backend.signer is None:
        raise RefusedError(
            "This page may not command units: it was started without --signing-key. Lock down at the units, "
            "or with `ostiary registry command`.",
            409,
        )
    return call.backend.signer


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, once each. Raises RefusedError for other bodies and for large ones."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise RefusedError("This page takes forms only.", 415)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise RefusedError("This form is too large.", 413)
    except ClientDisconnect as err:
        raise RefusedError("The form did not arrive whole.") from err
    try:
        pairs = urllib.parse.parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=200,
        )
    except ValueError as err:
        raise RefusedError("This form cannot be read.") from err
    return dict(pairs)


def keep_cookie(
    backend: Backend,
    answer: Response,
    name: str,
    value: str | None,
    life_s: int | None = None,
    samesite: Literal["lax", "strict"] = "strict",
) -> None:
    """Set a cookie that no script reads, until the browser closes or for `life_s`; None deletes it."""
    secure = backend.settings.secure
    if value is None:
        answer.delete_cookie(name, secure=secure, httponly=True, samesite=samesite)
    else:
        answer.set_cookie(name, value, life_s, secure=secure, httponly=True, samesite=samesite)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def redirect(address: str) -> Response:
    """To another page of ours."""
    return RedirectResponse(address, status_code=303)


def own_address(text: str) -> str:
    """Where to go after a login: a page of ours, whatever the address says."""
    parts = urllib.parse.urlsplit(text)
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if plain and not parts.scheme and not parts.netloc and len(text) < 2000 else "/"


def choose_language(request: Request) -> None:
    """The one that somebody chose here, or the first of their browser's that the page speaks."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    known = chosen in languages.LANGUAGES
    languages.choose(chosen if known else languages.accepted(request.headers.get("accept-language", "")))


def render(backend: Backend, request: Request, template: str, status: int = 200, **values: Any) -> Response:
    values.setdefault("viewer", None)
    values.setdefault("now_ms", backend.now_ms())
    theme = request.cookies.get(THEME_COOKIE, "")
    choose_language(request)
    html = (
        environment()
        .get_template(template)
        .render(
            organisation=backend.settings.organisation,
            origin=backend.settings.origin,
            sign_on=backend.sign_on.label if backend.sign_on else "",
            time_zone=backend.settings.time_zone,
            language=languages.current(),
            theme=theme if theme in ("light", "dark") else "",
            path=request.url.path,
            **values,
        )
    )
    return HTMLResponse(html, status_code=status)


def told(err: Exception) -> str:
    """An error in the language of this request."""
    if not isinstance(err, RefusedError):
        return languages.word(str(err))
    return languages.tell(err.message, *err.values)


async def show_error(request: Request, err: Exception) -> Response:
    """A page of the same design that says what to do, for whatever went wrong."""
    backend: Backend = request.app.state.backend
    status = err.status if isinstance(err, RefusedError) else 400
    choose_language(request)
    message = told(err)
    if isinstance(err, StoreError):
        log.error("%s", err)
        status, message = 503, languages.word(GONE)
    elif not isinstance(err, SyncError):
        log.error("a page failed", exc_info=err)
        status, message = 500, languages.word(FAILED)
    viewer = None
    if status not in (503, 500):
        try:
            viewer = await run_in_threadpool(viewer_of, backend, request)
        except StoreError:
            viewer = None
    return render(backend, request, "error.html", status, viewer=viewer, message=message, status_code=status)


@functools.cache
def static_version(name: str) -> str:
    """Changes whenever the file does, so that browsers may keep it for ever."""
    return hashlib.sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12]


@functools.cache
def environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("sync.dashboard"),
        extensions=[languages.Texts],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def moment(ms: int | None, zone: dt.tzinfo, form: str = "%-d %b %Y %H:%M:%S") -> str:
        if ms is None:
            return languages.word("never")
        return languages.date(dt.datetime.fromtimestamp(ms / 1000, zone), form)

    def static(name: str) -> str:
        return f"/static/{name}?v={static_version(name)}"

    def csrf(viewer: Viewer) -> Markup:
        return Markup('<input type="hidden" name="csrf" value="{}">').format(viewer.csrf)

    made.filters.update(
        moment=moment, duration=languages.duration, word=languages.word, signed=drawing.signed
    )
    made.globals.update(
        static=static,
        csrf=csrf,
        NAV=NAV,
        ROLE_NAMES=ROLE_NAMES,
        LANGUAGES=languages.LANGUAGES,
        say=languages.say,
        day_of=lambda text: languages.day_text(dt.datetime.fromisoformat(text)),
        word=languages.word,
        reason=words.reason,
        rights=lambda viewer: ROLES[viewer.role],
    )
    return made
