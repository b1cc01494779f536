"""The live stream behind the list and the doors: server-sent events, for what this account may see."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from sync.dashboard.accounts.rights import Right, Viewer
from sync.dashboard.events.events_query import Filter
from sync.dashboard.live.feed import Feed
from sync.dashboard.web import Backend, choose_language, viewer_of
from sync.dashboard.wording import languages


async def events_stream(request: Request) -> Response:
    """Ends with the session: a page that only listens does not keep one alive."""
    backend: Backend = request.app.state.backend
    feed: Feed = request.app.state.feed
    viewer = await run_in_threadpool(viewer_of, backend, request, touch=False)
    if viewer is None:
        return PlainTextResponse("log in\n", 401)
    wanted = Filter.read(request.query_params)
    if not viewer.may(Right.EVENTS) or (viewer.public and not wanted.by_place_only):
        return PlainTextResponse("not for this account\n", 403)
    if feed.full:
        return PlainTextResponse("too many pages listen\n", 503)
    began = (viewer.account, viewer.role, viewer.scopes)

    def still() -> bool:
        now: Viewer | None = viewer_of(backend, request, touch=False)
        return now is not None and (now.account, now.role, now.scopes) == began

    choose_language(request)
    last_id = request.headers.get("last-event-id", "")[:40]
    return StreamingResponse(
        feed.listen(viewer, wanted, last_id, still, languages.current()),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"},
    )
