"""Accounts, one's own account, and the journal of who looked at what."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.accounts import Account
from sync.dashboard.accounts.rights import ROLES, covers
from sync.dashboard.errors import DashboardError, RefusedError, not_found
from sync.dashboard.web import Call, address_of, redirect, told
from sync.dashboard.wording.languages import word

PAGE = 100


def accounts(call: Call) -> Response:
    return _accounts(call, None, "")


def invite(call: Call) -> Response:
    role = call.form.get("role", "")
    scopes = call.tags()
    name = call.text("account", 32, needed=False).lower() or None
    if not covers(call.viewer.scopes, scopes):
        raise RefusedError("You can give only the tags that you have.", 403)
    if name is not None:
        _must_be_mine(call, name)
    try:
        by, session = call.viewer.account, call.viewer.session
        token = call.backend.accounts.invite(role, scopes, by, call.now_ms, account=name, session=session)
    except DashboardError as err:
        return _accounts(call, None, told(err), 400)
    return _accounts(call, f"{call.backend.settings.origin}/welcome/{token}", "")


def disable(call: Call) -> Response:
    name = call.form.get("account", "")
    if name == call.viewer.account:
        raise RefusedError("You cannot disable your own account; another administrator can.")
    _must_be_mine(call, name)
    try:
        call.backend.accounts.disable(name, call.viewer.account, call.now_ms)
    except DashboardError as err:
        return _accounts(call, None, told(err), 400)
    return redirect("/accounts")


def mine(call: Call) -> Response:
    return _mine(call, "", "")


def change_password(call: Call) -> Response:
    """The old one is asked for, and every other session of the account ends."""
    backend, name = call.backend, call.viewer.account
    _must_be_local(call)
    try:
        if call.form.get("password") != call.form.get("again"):
            raise RefusedError("The two new passwords are not the same.")
        old, address = call.form.get("old", ""), address_of(call.request)
        login = backend.accounts.check(name, old, address, call.now_ms)
        if login is None:
            raise RefusedError("The present password is another one.")
        backend.accounts.change_password(
            login, call.form.get("password", ""), call.viewer.session, call.now_ms
        )
    except DashboardError as err:
        return _mine(call, told(err), "", 400)
    return _mine(call, "", word("Your password is changed. Other sessions of yours have ended."))


def begin_passkey(call: Call) -> Response:
    """Options for the browser, as JSON."""
    _may_have_passkeys(call)
    options = call.backend.passkeys.begin_adding(call.viewer.account, call.now_ms)
    return Response(options, media_type="application/json")


def add_passkey(call: Call) -> Response:
    _may_have_passkeys(call)
    try:
        viewer, credential = call.viewer, call.form.get("credential", "")
        call.backend.passkeys.add(viewer.account, credential, viewer.session, call.now_ms)
    except DashboardError as err:
        return JSONResponse({"message": told(err)}, 400)
    return JSONResponse({"go": "/account"})


def remove_passkeys(call: Call) -> Response:
    """Remove all passkeys; the password counts again."""
    call.backend.passkeys.remove_all(call.viewer.account, call.viewer.session, call.now_ms)
    return redirect("/account")


def _may_have_passkeys(call: Call) -> None:
    if call.viewer.public:
        raise RefusedError("A wall display has no passkey.", 403)
    _must_be_local(call)


def _must_be_local(call: Call) -> None:
    """Refuse accounts of the identity provider: a password here would outlive their account there."""
    if call.backend.accounts.elsewhere(call.viewer.account):
        raise RefusedError("This account logs in by single sign-on; change it there.", 403)


def looked_at(call: Call) -> Response:
    before = call.query.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 16):
        raise not_found()
    account = call.query.get("account", "").strip()
    # Anybody who sees a part of the house sees what accounts of that part did, and no other's reasons.
    mine = [known.name for known in _seen(call)] if call.viewer.scopes else None
    found = journal.entries(call.backend.store, int(before) if before else None, PAGE, account or None, mine)
    call.note("journal", f"read by {call.viewer.account}", len(found))
    older = found[-1].number if len(found) == PAGE else None
    newest = journal.entries(call.backend.store, limit=1)
    return call.page(
        "journal.html", entries=found, older=older, account=account, head=newest[0] if newest else None
    )


def _seen(call: Call) -> list[Account]:
    """The accounts that see nothing beyond what this one sees."""
    return [known for known in call.backend.accounts.listed() if covers(call.viewer.scopes, known.scopes)]


def _must_be_mine(call: Call, name: str) -> None:
    """Raises RefusedError for an account that sees more than this one: nobody takes it over, or ends it."""
    others = {known.name for known in call.backend.accounts.listed()} - {known.name for known in _seen(call)}
    if name in others:
        raise RefusedError("There is no such account here.", 404)


def _accounts(call: Call, link: str | None, message: str, status: int = 200) -> Response:
    return call.page("accounts.html", status, accounts=_seen(call), link=link, message=message, roles=ROLES)


def _mine(call: Call, wrong: str, done: str, status: int = 200) -> Response:
    rights = sorted(right.value for right in ROLES[call.viewer.role])
    held = call.backend.passkeys.count(call.viewer.account)
    return call.page(
        "account.html",
        status,
        wrong=wrong,
        done=done,
        may=rights,
        passkeys=held,
        local=not call.backend.accounts.elsewhere(call.viewer.account),
    )
