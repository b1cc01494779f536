"""The claim service: units that have nothing but a claim ask it for their place, over HTTPS."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sync.errors import MalformedError, SyncError
from sync.fleet.provisioning.admission import Admission
from sync.fleet.provisioning.guard import Guard
from sync.fleet.provisioning.messages import (
    BEGIN_PATH,
    FINISH_PATH,
    MAX_REQUEST_BYTES,
    RENEW_PATH,
    SITE_PATH,
    Begin,
    Finish,
    Refusal,
    Renew,
)
from sync.fleet.provisioning.messages import Site as SiteMessage
from sync.fleet.provisioning.refusals import RefusedError
from sync.fleet.provisioning.site import Site
from sync.service import web_server
from sync.service.service_manager import ServiceManager

log = logging.getLogger(__name__)

GUARD_EVERY_S = 1.0
CERTIFICATE_EVERY = dt.timedelta(days=1)
BODY_WITHIN_S = 15.0
_MEDIA = "application/cbor"


def make_app(admission: Admission, site: SiteMessage) -> Starlette:
    """The four requests. Every answer is CBOR; a refusal has status 403, what cannot be read 400."""

    works: dict[str, Callable[[bytes], bytes]] = {
        BEGIN_PATH: lambda body: admission.begin(Begin.from_bytes(body)).to_bytes(),
        RENEW_PATH: lambda body: admission.renew(Renew.from_bytes(body)).to_bytes(),
        FINISH_PATH: lambda body: admission.finish(Finish.from_bytes(body)).to_bytes(),
    }

    async def show_site(_: Request) -> Response:
        return Response(site.to_bytes(), media_type=_MEDIA)

    def asks(work: Callable[[bytes], bytes]) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            try:
                async with asyncio.timeout(BODY_WITHIN_S):
                    body = await _body(request)
                return Response(await run_in_threadpool(work, body), media_type=_MEDIA)
            except (TimeoutError, ClientDisconnect):
                return _refusal(400, "slow", "the request did not come in time; try again")
            except MalformedError as err:
                return _refusal(400, "malformed", str(err))
            except RefusedError as err:
                log.warning("refused (%s): %s", err.code, err)
                return _refusal(400 if err.code == "malformed" else 403, err.code, str(err))
            except SyncError as err:
                log.error("%s", err)
                return _refusal(503, "down", "the site's registry does not answer; try again later")

        return answer

    return Starlette(
        routes=[
            Route(SITE_PATH, show_site, methods=["GET"]),
            *(Route(path, asks(work), methods=["POST"]) for path, work in works.items()),
        ]
    )


async def _body(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_REQUEST_BYTES:
            raise MalformedError(f"oversized: at most {MAX_REQUEST_BYTES} bytes")
    return data


def _refusal(status: int, code: str, why: str) -> Response:
    return Response(Refusal(code, why).to_bytes(), status, media_type=_MEDIA)


def serve(
    site: Site, admission: Admission, guard: Guard, manager: ServiceManager, started: Callable[[], None]
) -> None:
    """Until SIGTERM or SIGINT. Raises SyncError when it cannot listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _certify(context, site, admission)
    app = make_app(admission, SiteMessage(site.root(), site.policy_authority()))
    stop = threading.Event()

    def watch() -> None:
        certified = admission.now()
        while not stop.wait(GUARD_EVERY_S):
            try:
                guard.step()
                if admission.now() - certified > CERTIFICATE_EVERY:
                    _certify(context, site, admission)
                    certified = admission.now()
                manager.status("waiting for units")
            except SyncError as err:
                _on_record(guard, str(err))
                manager.status(str(err))
            except Exception:  # supervisor boundary: the guard must not die unseen
                log.exception("the guard failed; it is tried again")
                manager.status("the guard failed; look at the journal")
            manager.progress()

    watcher = threading.Thread(target=watch, name="guard")
    watcher.start()
    try:
        web_server.serve(
            app, site.listen, site.claims_port, context, started,
            lifespan="off", limit_concurrency=64, timeout_keep_alive=10,
        )  # fmt: skip
    finally:
        stop.set()
        watcher.join()


def _on_record(guard: Guard, why: str) -> None:
    try:
        guard.failed(why)
    except SyncError as err:
        log.error("%s; and that cannot be written down: %s", why, err)


def _certify(context: ssl.SSLContext, site: Site, admission: Admission) -> None:
    """Give connections from now on a fresh server's certificate, whose key stays in no file."""
    hosts = tuple(dict.fromkeys((site.host, "localhost", "127.0.0.1")))
    with tempfile.TemporaryDirectory(prefix="ostiary-claims-") as folder:
        files = admission.authority.issue("claims", admission.now(), hosts, into=Path(folder))
        context.load_cert_chain(str(files.certificate), str(files.key))
