"""The dashboard as an ASGI application: the table of its pages, and who may open each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import mimetypes
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sync.dashboard.accounts.rights import Right
from sync.dashboard.doors import doors_page as doors
from sync.dashboard.doors import holds
from sync.dashboard.emergency import lockdown
from sync.dashboard.emergency import lockdown_page as lockdown_pages
from sync.dashboard.emergency import muster_page as muster
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_page as events
from sync.dashboard.guard import Guard
from sync.dashboard.incidents import incidents
from sync.dashboard.incidents import incidents_page as incident_pages
from sync.dashboard.insight import counted, insight_pages
from sync.dashboard.live import stream
from sync.dashboard.live.feed import Feed
from sync.dashboard.manage import account_pages as manage
from sync.dashboard.manage import approvals_page as approvals
from sync.dashboard.manage import entrance, machines
from sync.dashboard.people import people_page as people
from sync.dashboard.people import visits, visits_page
from sync.dashboard.records import emergency_page as emergency
from sync.dashboard.records import handover_page as handover
from sync.dashboard.records import proofs_page as proofs
from sync.dashboard.records import records_page as records
from sync.dashboard.records import review_page as review
from sync.dashboard.web import STATIC, Backend, Handler, guarded, show_error
from sync.errors import SyncError
from sync.registry.database.store import StoreError

log = logging.getLogger(__name__)

_UNIT = "{site:str}/{unit:str}"

PAGES: list[tuple[str, str, Handler, Right | None]] = [
    ("GET", "/", entrance.start, None),
    ("POST", "/logout", entrance.log_out, None),
    ("POST", "/theme", entrance.choose_theme, None),
    ("POST", "/language", entrance.choose_language, None),
    ("GET", "/doors", doors.overview, Right.DOORS),
    ("GET", f"/doors/{_UNIT}/{{door:str}}", doors.door, Right.DOORS),
    ("POST", f"/doors/{_UNIT}/{{door:str}}/hold", doors.hold, Right.LOCK_DOWN),
    ("POST", f"/doors/{_UNIT}/{{door:str}}/hold/{{hold:str}}/end", doors.end_hold, Right.LOCK_DOWN),
    ("POST", f"/doors/{_UNIT}/{{door:str}}/weekly", doors.plan_hold, Right.LOCK_DOWN),
    ("POST", f"/doors/{_UNIT}/{{door:str}}/weekly/{{plan:str}}/remove", doors.drop_plan, Right.LOCK_DOWN),
    ("POST", f"/doors/{_UNIT}/{{door:str}}/who", doors.who, Right.REVEAL),
    ("GET", "/events", events.listing, Right.EVENTS),
    ("POST", "/events/export", events.export, Right.EXPORT),
    ("GET", f"/events/{_UNIT}/{{sequence:str}}", events.why, Right.PEOPLE),
    ("GET", "/people/{person:str}", people.person, Right.PEOPLE),
    ("POST", "/people/{person:str}/name", people.reveal, Right.REVEAL),
    ("GET", "/incidents", incident_pages.listing, Right.INCIDENTS),
    ("GET", "/incidents/{incident:str}", incident_pages.one, Right.INCIDENTS),
    ("POST", "/incidents/{incident:str}", incident_pages.act, Right.WORK),
    ("GET", "/lockdown", lockdown_pages.overview, Right.LOCK_DOWN),
    ("GET", "/lockdown/start", lockdown_pages.confirm, Right.LOCK_DOWN),
    ("POST", "/lockdown/start", lockdown_pages.start, Right.LOCK_DOWN),
    ("POST", "/lockdown/plans", lockdown_pages.save_plan, Right.LOCK_DOWN),
    ("POST", "/lockdown/plans/{plan:str}/remove", lockdown_pages.remove_plan, Right.LOCK_DOWN),
    ("GET", "/lockdown/{run:str}", lockdown_pages.run, Right.LOCK_DOWN),
    ("POST", "/lockdown/{run:str}/end", lockdown_pages.end, Right.LOCK_DOWN),
    ("GET", "/muster", muster.overview, Right.MUSTER),
    ("POST", "/muster", muster.start, Right.MUSTER),
    ("GET", "/muster/{muster:str}", muster.one, Right.MUSTER),
    ("POST", "/muster/{muster:str}", muster.act, Right.MUSTER),
    ("GET", "/handover", handover.overview, Right.WORK),
    ("POST", "/handover", handover.write, Right.WORK),
    ("POST", "/handover/{handover:str}", handover.accept, Right.WORK),
    ("GET", "/visits", visits_page.overview, Right.VISITS),
    ("POST", "/visits", visits_page.make, Right.SPONSOR),
    ("POST", "/visits/{visit:str}", visits_page.act, Right.SPONSOR),
    ("GET", "/attacks", insight_pages.attacks, Right.ATTACKS),
    ("GET", "/health-of-units", insight_pages.health, Right.HEALTH),
    ("GET", "/review", review.overview, Right.REVIEW),
    ("POST", "/review", review.sign, Right.REVIEW),
    ("GET", "/emergency", emergency.overview, Right.REVIEW),
    ("POST", "/emergency", emergency.review, Right.REVIEW),
    ("GET", "/proofs", proofs.listing, Right.PROOFS),
    ("GET", f"/proofs/{_UNIT}", proofs.one, Right.PROOFS),
    ("POST", f"/proofs/{_UNIT}/bundle", proofs.bundle, Right.PROOFS),
    ("POST", f"/proofs/{_UNIT}/head", proofs.newest_head, Right.PROOFS),
    ("GET", "/journal", manage.looked_at, Right.JOURNAL),
    ("GET", "/accounts", manage.accounts, Right.ACCOUNTS),
    ("POST", "/accounts", manage.invite, Right.ACCOUNTS),
    ("POST", "/accounts/disable", manage.disable, Right.ACCOUNTS),
    ("GET", "/tokens", machines.listing, Right.ACCOUNTS),
    ("POST", "/tokens", machines.make, Right.ACCOUNTS),
    ("POST", "/tokens/revoke", machines.revoke, Right.ACCOUNTS),
    ("GET", "/approvals", approvals.listing, Right.APPROVE),
    ("POST", "/approvals/{request:str}", approvals.decide, Right.APPROVE),
    ("POST", "/people/{person:str}/forget", people.forget, Right.FORGET),
    ("GET", "/ledger", records.biometric, Right.REVIEW),
    ("GET", "/rooms", records.sensitive, Right.MUSTER),
    ("GET", "/account", manage.mine, None),
    ("POST", "/account/password", manage.change_password, None),
    ("POST", "/account/passkey/begin", manage.begin_passkey, None),
    ("POST", "/account/passkey/finish", manage.add_passkey, None),
    ("POST", "/account/passkey/remove", manage.remove_passkeys, None),
]
"""Method, path, page, and the right it needs; None: every account that is logged in."""


API = (
    ("events", machines.api_events, Right.EVENTS),
    ("doors", machines.api_doors, Right.DOORS),
    ("incidents", machines.api_incidents, Right.INCIDENTS),
)
"""What a token may ask: `/api/v1/NAME`."""


def make_app(backend: Backend) -> Starlette:
    """The whole site. Its reader of new events runs as long as the application does."""

    feed = Feed(backend.store, backend.now_ms, backend.settings.time_zone)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        count = functools.partial(counted.count_due, backend.store, backend.settings.time_zone)
        steps: list[tuple[Callable[[int], object], float]] = [(_chores(backend), CHORES_S), (count, MINUTE_S)]
        if backend.reports is not None:
            steps.append((backend.reports.step, MINUTE_S))
        tasks = [asyncio.create_task(feed.run())]
        tasks += [asyncio.create_task(_again(step, every_s, backend)) for step, every_s in steps]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    routes = [Route(path, guarded(page, right), methods=[method]) for method, path, page, right in PAGES]
    routes += [
        Route(f"/api/v1/{name}", machines.for_tokens(answer, right), methods=["GET"])
        for name, answer, right in API
    ]
    routes += [
        Route("/login", entrance.login, methods=["GET", "POST"]),
        Route("/login/passkey/begin", entrance.begin_passkey, methods=["POST"]),
        Route("/login/passkey/finish", entrance.passkey, methods=["POST"]),
        Route("/login/oidc", entrance.begin_sign_on, methods=["GET"]),
        Route("/login/oidc/back", entrance.sign_on, methods=["GET"]),
        Route("/welcome/{token:str}", entrance.welcome, methods=["GET", "POST"]),
        Route("/stream", stream.events_stream, methods=["GET"]),
        Route("/static/{name:str}", _static, methods=["GET"]),
        Route("/muster-worker.js", _muster_worker, methods=["GET"]),
        Route("/health", _health, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            SyncError: show_error,
            HTTPException: _http_error,
            Exception: show_error,
        },
    )
    app.add_middleware(Guard, settings=backend.settings)
    app.state.backend = backend
    app.state.feed = feed
    return app


CHORES_S = 1.0
MINUTE_S = 60.0
TELL_EVERY_S = 30.0
"""How often units that were away are told of visits."""


def _chores(backend: Backend) -> Callable[[int], None]:
    """What is due must not need a visitor: alarms become incidents, and what was to end by now ends."""
    told_s = 0.0

    def once(now_ms: int) -> None:
        nonlocal told_s
        incidents.gather(backend.store, now_ms)
        if backend.signer is not None:
            lockdown.end_due(backend.store, backend.signer, now_ms)
            holds.ask_due(backend.store, backend.signer, backend.settings.time_zone, now_ms)
            if time.monotonic() - told_s > TELL_EVERY_S:
                visits.tell_due(backend.store, backend.signer, now_ms)
                told_s = time.monotonic()

    return once


async def _again(step: Callable[[int], object], every_s: float, backend: Backend) -> None:
    """Take a step again and again, beside the live stream: slow mail servers and counts hold up no page."""
    while True:
        try:
            await run_in_threadpool(step, backend.now_ms())
        except StoreError:
            pass  # the live stream says already that the database is gone
        except Exception:
            log.exception("what is done from time to time failed; it is tried again")
        await asyncio.sleep(every_s)


async def _http_error(request: Request, err: Exception) -> Response:
    status = err.status_code if isinstance(err, HTTPException) else 400
    refusal = not_found() if status == 404 else RefusedError("This page does not do that.", status)
    return await show_error(request, refusal)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    file = STATIC.joinpath(name)
    if not file.is_file() or "/" in name or name.startswith("."):
        return PlainTextResponse("Not found.\n", 404)
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(file.read_bytes(), media_type=kind or "application/octet-stream", headers=headers)


async def _muster_worker(request: Request) -> Response:
    """Outside /static, for a worker keeps what lies beside it; never cached, so that it can be replaced."""
    headers = {"Service-Worker-Allowed": "/muster/"}
    body = STATIC.joinpath("muster-worker.js").read_bytes()
    return Response(body, media_type="text/javascript", headers=headers)


async def _health(request: Request) -> Response:
    """For a proxy: 200 while the database answers."""
    feed: Feed = request.app.state.feed
    if feed.stale_since_ms is not None:
        return PlainTextResponse("the database does not answer\n", 503)
    return PlainTextResponse("ok\n")
