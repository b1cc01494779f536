"""Checks every request before a page sees it, and puts the security headers on every answer."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync.dashboard.settings import DashboardSettings

SAFE = frozenset({"GET", "HEAD"})
MAX_ADDRESS = 4096
CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
ROLL_CALL = "/muster/"
ROLL_CALL_CSP = CSP.replace("trusted-types 'none'", "trusted-types roll-call")
"""A roll call's page may name one script itself: the worker that keeps the list."""
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """Refuses other hosts and other sites' requests; puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, settings: DashboardSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith(ROLL_CALL):
                    headers["Content-Security-Policy"] = ROLL_CALL_CSP
                headers.setdefault("Cache-Control", "no-store")
                if self._settings.secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded_send)
        else:
            await self._app(scope, receive, guarded_send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        # 1. A name that leads here but is not ours (DNS rebinding) gets nothing.
        if headers.get("host", "") != self._settings.host:
            return PlainTextResponse(f"This page is at {self._settings.origin}\n", 421)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_ADDRESS:
            return PlainTextResponse("This address is too long.\n", 414)
        if scope["method"] in SAFE:
            return None
        # 2. A request that changes something comes from our own pages, as browsers state in its headers.
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        same = site == "same-origin" if site is not None else origin == self._settings.origin
        if not same or origin not in (None, self._settings.origin):
            return PlainTextResponse("This request came from another page.\n", 403)
        return None
