"""The way in and out: log in, use a one-time link, log out."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync.dashboard.accounts.oidc import SingleSignOn
from sync.dashboard.accounts.passkeys import NONE_HELD
from sync.dashboard.accounts.sessions import Login
from sync.dashboard.errors import DashboardError, RefusedError, not_found
from sync.dashboard.web import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    Backend,
    Call,
    address_of,
    keep_cookie,
    own_address,
    read_form,
    redirect,
    render,
    told,
    viewer_of,
)
from sync.dashboard.web import choose_language as speak_as
from sync.dashboard.wording import languages
from sync.dashboard.wording.languages import word

YEAR_S = 31_536_000
Entrance = Callable[[Backend, Request, Mapping[str, str]], Response]


def _open_to_all(page: Entrance) -> Callable[[Request], Awaitable[Response]]:
    def answered(request: Request, form: Mapping[str, str]) -> Response:
        speak_as(request)
        return page(request.app.state.backend, request, form)

    @functools.wraps(page)
    async def endpoint(request: Request) -> Response:
        form = await read_form(request) if request.method == "POST" else {}
        return await run_in_threadpool(answered, request, form)

    return endpoint


def start(call: Call) -> Response:
    """The first page of each role."""
    return redirect("/events" if call.viewer.role == "auditor" else "/doors")


@_open_to_all
def login(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    wanted = own_address(request.query_params.get("next", "/"))
    if request.method == "GET":
        if viewer_of(backend, request, touch=False) is not None:
            return redirect(wanted)
        return render(backend, request, "login.html", wanted=wanted, message="", name="")
    now_ms, name = backend.now_ms(), form.get("account", "")
    wanted = own_address(form.get("next", "/"))
    try:
        found = backend.accounts.check(name, form.get("password", ""), address_of(request), now_ms)
    except DashboardError as err:
        return render(backend, request, "login.html", 429, wanted=wanted, message=told(err), name=name)
    if found is None:
        message = word("This name and password do not fit together.")
        return render(backend, request, "login.html", 401, wanted=wanted, message=message, name=name)
    if backend.passkeys.count(found.account):
        # A password beside a passkey would be the weaker way in.
        message = word("This account logs in with its passkey. An administrator can give it a new link.")
        return render(backend, request, "login.html", 403, wanted=wanted, message=message, name=name)
    try:
        return _enter(backend, request, replace(found, still=(*found.still, NONE_HELD)), wanted)
    except RefusedError as err:
        return render(backend, request, "login.html", err.status, wanted=wanted, message=told(err), name=name)


@_open_to_all
def begin_passkey(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    return Response(backend.passkeys.begin_login(backend.now_ms()), media_type="application/json")


@_open_to_all
def passkey(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    answer = JSONResponse({"go": own_address(form.get("next", "/"))})
    try:
        _begin(backend, request, backend.passkeys.login(form.get("credential", ""), backend.now_ms()), answer)
    except RefusedError as err:
        return JSONResponse({"message": told(err)}, err.status)
    return answer


@_open_to_all
def begin_sign_on(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    """To the identity provider; the cookie shows later that the answer comes back to the same browser."""
    sign_on = _sign_on(backend)
    address, state = sign_on.begin(own_address(request.query_params.get("next", "/")), backend.now_ms())
    answer = redirect(address)
    # Lax: the provider's answer is a navigation from another site, and must bring this one cookie.
    keep_cookie(backend, answer, sign_on.cookie, state, 600, "lax")
    return answer


@_open_to_all
def sign_on(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    """The provider's answer. The next page is opened from here: from there no strict cookie would come."""
    found = _sign_on(backend)
    login, wanted = found.finish(request.cookies.get(found.cookie), request.query_params, backend.now_ms())
    answer = render(backend, request, "entering.html", wanted=own_address(wanted))
    keep_cookie(backend, answer, found.cookie, None, samesite="lax")
    _begin(backend, request, login, answer)
    return answer


def _sign_on(backend: Backend) -> SingleSignOn:
    if backend.sign_on is None:
        raise not_found()
    return backend.sign_on


@_open_to_all
def welcome(backend: Backend, request: Request, form: Mapping[str, str]) -> Response:
    token, now_ms = request.path_params["token"], backend.now_ms()
    role, account = backend.accounts.invitation(token, now_ms)
    shown = {"role": role, "account": account, "token": token}
    if request.method == "GET":
        return render(backend, request, "welcome.html", message="", **shown)
    try:
        if form.get("password") != form.get("again"):
            raise RefusedError("The two passwords are not the same.")
        name = account or form.get("account", "").strip().lower()
        login = backend.accounts.accept(token, name, form.get("password", ""), now_ms)
    except DashboardError as err:
        return render(backend, request, "welcome.html", 400, message=told(err), **shown)
    return _enter(backend, request, login, "/")


def log_out(call: Call) -> Response:
    backend = call.backend
    call.note("logout", call.viewer.account)
    backend.sessions.end(call.request.cookies.get(backend.settings.cookie, ""))
    answer = redirect("/login")
    keep_cookie(backend, answer, backend.settings.cookie, None)
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def choose_theme(call: Call) -> Response:
    """Light, dark, or as the system says."""
    theme = call.form.get("theme", "")
    answer = redirect(own_address(call.form.get("back", "/")))
    keep_cookie(call.backend, answer, THEME_COOKIE, theme if theme in ("light", "dark") else None, YEAR_S)
    return answer


def choose_language(call: Call) -> Response:
    """Keep the language of the page in this browser."""
    language = call.form.get("language", "")
    answer = redirect(own_address(call.form.get("back", "/")))
    if language in languages.LANGUAGES:
        keep_cookie(call.backend, answer, LANGUAGE_COOKIE, language, YEAR_S)
    return answer


def _enter(backend: Backend, request: Request, login: Login, wanted: str) -> Response:
    answer = redirect(wanted)
    _begin(backend, request, login, answer)
    return answer


def _begin(backend: Backend, request: Request, login: Login, answer: Response) -> None:
    """Put a new session into an answer. Raises RefusedError where the account has changed meanwhile."""
    now_ms = backend.now_ms()
    # A new id at every login, and the old one ends: nobody can prepare a session for somebody else.
    secret = backend.sessions.begin(login, now_ms, replaces=request.cookies.get(backend.settings.cookie))
    keep_cookie(backend, answer, backend.settings.cookie, secret)
