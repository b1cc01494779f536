"""The facade without HTTP: admission, order, and answers that may be asked for again.

One judge thread takes requests in the order in which their bodies were complete. A request holds room from
before its body is read until its result is on disk, which bounds memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from device.api.bodies import OtpRequest, RegisterRequest, VerifyRequest
from device.api.checks import Checks, Job
from device.api.codes import CodeIssuer
from device.api.errors import (
    BAD_TOKEN,
    NO_LANGUAGE,
    NO_RESULT,
    NOT_RENEWABLE,
    OTHER_BODY,
    ProblemError,
    problem_of,
)
from device.api.limits import Rate, Room, Stay
from device.api.metrics import Metrics
from device.api.results import Results, Transaction, transaction
from device.api.streams.hub import Hub
from device.api.tokens import Token, TokenBook, authenticate, issue
from device.clock import Clock
from device.conversation.opening import ConversationModels
from device.evidence.vocabulary import Language
from device.secure_store.signing import Mac
from device.settings import ApiSettings
from sync.plain_words import told

log = logging.getLogger("ostiary.api")

Body = dict[str, Any]
_PURGE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    asked: Transaction
    future: asyncio.Future[Body]


class Service:
    """Everything behind the routes. Belongs to one event loop."""

    def __init__(
        self,
        settings: ApiSettings,
        checks: Checks,
        results: Results,
        codes: CodeIssuer,
        mac: Mac,
        clock: Clock,
        tokens: TokenBook,
        *,
        stuck_after_s: float,
        open_models: Callable[[], ConversationModels] | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.room = Room(settings.max_waiting, settings.max_waiting_bytes)
        self._checks = checks
        self._results = results
        self._codes = codes
        self._mac = mac
        self._tokens = tokens
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._callers = Rate(settings.requests_per_s, settings.burst, "this caller asks too often")
        per_min = settings.checks_per_person_per_min
        self._people = Rate(per_min / 60.0, per_min, "this person's voice was checked too often lately")
        self.streams = Hub(settings, checks.tools, open_models, self._people, clock)
        self._waiting: dict[bytes, _Waiting] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="api-judge")
        # One thread, so that requests reach the judge in the order in which they came.
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="api-reader")
        self._judging_since_s: float | None = None
        self._purged_s = clock().monotonic_s

    def admit(self, header: str | None, scope: str | None, certificate: str) -> Token:
        """The caller's token, before the body is read. Raises ProblemError (401, 403, 429)."""
        now = self._clock()
        token = authenticate(
            header,
            scope,
            self._mac,
            now_s=now.wall.timestamp(),
            certificate=certificate,
            max_life_s=self.settings.max_token_min * 60.0,
        )
        if not self._tokens.holds(token):
            raise ProblemError(BAD_TOKEN, "this token was recalled; ask for a new one")
        self._callers.take(token.client, now.monotonic_s)
        return token

    @property
    def usual_language(self) -> Language:
        """Of phrases, where a caller names none."""
        return self._checks.usual_language

    async def otp(self, token: Token, request: OtpRequest) -> Body:
        """A phrase to be spoken. Raises ProblemError."""
        await self._known(request.door)
        if not self._checks.hears(request.language):
            raise ProblemError(NO_LANGUAGE, "this unit's models cannot hear that language")
        asked = transaction(
            self._mac,
            *(token.client, request.tid),
            *("otp", request.uid, request.text, str(request.style), request.door, request.phrase),
            *(() if request.language is Language.ENGLISH else (str(request.language),)),
        )
        if asked.key in self._waiting or self._results.fetch(asked.key) is not None:
            raise ProblemError(OTHER_BODY, "this transaction was already answered")
        return self._codes.issue(asked, request, self._clock())

    async def verify(self, token: Token, request: VerifyRequest, stay: Stay) -> Body | None:
        """The result; None when a caller would wait too long for it. Raises ProblemError."""
        await self._readable((request.audio,))
        await self._known(request.door)
        asked = transaction(
            self._mac,
            *(token.client, request.tid),
            *("verify", request.uid, request.code, request.door, hashlib.sha256(request.audio).digest()),
        )

        def job() -> Job:
            now = self._clock()
            self._people.take(self._person(request.uid), now.monotonic_s)
            challenge = self._codes.redeem(asked.key, request, now)
            return partial(self._checks.verify, request, challenge, token.client)

        return await self._answer(asked, request.tid, request.uid, job, stay)

    async def register(self, token: Token, request: RegisterRequest, stay: Stay) -> Body | None:
        """As `verify`, for an enrolment."""
        await self._readable(request.audio)
        asked = transaction(
            self._mac,
            *(token.client, request.tid),
            *("register", request.uid, request.consent_to),
            *(hashlib.sha256(content).digest() for content in request.audio),
        )

        def job() -> Job:
            self._people.take(self._person(request.uid), self._clock().monotonic_s)
            return partial(self._checks.register, request, asked)

        return await self._answer(asked, request.tid, request.uid, job, stay)

    async def people(self, after: str) -> Body:
        """Up to PEOPLE_AT_ONCE enrolled people behind the id `after`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._checks.people, after)

    async def forget(self, token: Token, uid: str) -> Body:
        """Erase a person. Raises ProblemError (404) for somebody who is not enrolled."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, self._checks.forget, uid)
        log.warning("%s had a person forgotten, record %s", token.client, found["record"])
        return found

    def renew(self, token: Token) -> Body:
        """A token like this one, from now on. Raises ProblemError (403)."""
        now_s = int(self._clock().wall.timestamp())
        ends_s = token.first_s + int(self.settings.renewable_days * 86_400)
        if not token.certificate:
            raise ProblemError(NOT_RENEWABLE, "only a token that is tied to a client certificate is renewed")
        if now_s >= ends_s:
            raise ProblemError(
                NOT_RENEWABLE, "it was renewed for as long as this unit allows; have a new one issued"
            )
        life_s = token.expires_s - token.issued_s
        made = replace(
            token, issued_s=now_s, expires_s=min(now_s + life_s, ends_s), token_id=secrets.token_hex(8)
        )
        self._tokens.add(made)
        return {"token": issue(made, self._mac), "token_id": made.token_id, "expires_s": made.expires_s}

    def result(self, token: Token, tid: str) -> Body | None:
        """The result of a transaction; None while it waits. Raises ProblemError (404, 410)."""
        self._purge_now_and_then()
        key = transaction(self._mac, token.client, tid).key
        if key in self._waiting:
            return None
        found = self._results.fetch(key)
        if found is None:
            raise ProblemError(NO_RESULT, "nothing was answered under this transaction id")
        return found

    def healthy(self) -> bool:
        """Whether the judge thread moves."""
        since_s = self._judging_since_s
        return since_s is None or time.monotonic() - since_s < self._stuck_after_s

    def gauges(self) -> dict[str, tuple[str, float]]:
        self._purge_now_and_then()
        return {
            "ostiary_api_waiting": ("Requests that hold room.", self.room.requests),
            "ostiary_api_waiting_bytes": ("Bytes that they may take.", self.room.size_bytes),
            "ostiary_api_results": ("Results on disk.", self._results.count()),
            "ostiary_api_streams": ("Streams that hold room.", self.streams.open),
            "ostiary_api_healthy": ("1 while the judge thread moves.", float(self.healthy())),
        }

    def close(self) -> None:
        """Finish the running check and drop what waits, which was never answered."""
        self.streams.close()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _person(self, uid: str) -> str:
        """A keyed hash, which tells nothing of a person once they are forgotten."""
        return self._mac("api person", uid.encode()).hex()

    async def _known(self, door: str) -> None:
        """Raises ProblemError for an unknown door; on a thread, since reading rules may take a second."""
        if door:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._checks.door_rules, door)

    async def _readable(self, recordings: Sequence[bytes]) -> None:
        """Refuse a file that cannot be read before it costs a code, a transaction or a try."""
        await asyncio.get_running_loop().run_in_executor(self._readers, self._checks.readable, recordings)

    async def _answer(
        self, asked: Transaction, tid: str, uid: str, job: Callable[[], Job], stay: Stay
    ) -> Body | None:
        """The one answer of this transaction. Nothing awaits before `job()`, so nothing interleaves."""
        self._purge_now_and_then()
        waiting = self._waiting.get(asked.key)
        if waiting is None:
            known = self._results.find(asked)
            if known is not None:
                stay.end()
                return known
            work = job()
            stay.handed_on = True
            future = asyncio.get_running_loop().create_task(self._serve(asked, tid, uid, work, stay))
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait
            waiting = _Waiting(asked, future)
            self._waiting[asked.key] = waiting
        elif waiting.asked.fingerprint != asked.fingerprint:
            raise ProblemError(OTHER_BODY, "this transaction id was used with another request")
        else:
            stay.end()
        try:
            # Shielded: a caller who hangs up does not undo what others may ask for.
            return await asyncio.wait_for(asyncio.shield(waiting.future), self.settings.answer_within_s)
        except TimeoutError:
            return None

    async def _serve(self, asked: Transaction, tid: str, uid: str, job: Job, stay: Stay) -> Body:
        arrived = self._clock()
        kind, outcome = "unknown", "fault"
        try:
            body = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._run, asked, tid, uid, job, arrived.monotonic_s
            )
            kind, outcome = body["kind"], body["outcome"]
            return body
        except ProblemError:
            raise
        except Exception as err:
            log.error("a check failed: %s", told(err))
            raise problem_of(err) from err
        finally:
            stay.end()
            del self._waiting[asked.key]
            self.metrics.finished(kind, outcome, self._clock().monotonic_s - arrived.monotonic_s)

    def _run(self, asked: Transaction, tid: str, uid: str, job: Job, arrived_s: float) -> Body:
        """On the judge thread: check, keep, answer."""
        self._judging_since_s = time.monotonic()
        began = self._clock()
        try:
            found = job()
            done = self._clock()
            return self._results.put(
                asked,
                {
                    "tid": tid,
                    "uid": uid,
                    "status": "done",
                    **found,
                    "finished_at": done.wall.isoformat(),
                    "waited_ms": round((began.monotonic_s - arrived_s) * 1e3, 1),
                    "took_ms": round((done.monotonic_s - began.monotonic_s) * 1e3, 1),
                },
            )
        finally:
            self._judging_since_s = None

    def _purge_now_and_then(self) -> None:
        now_s = self._clock().monotonic_s
        if now_s - self._purged_s >= _PURGE_EVERY_S:
            self._purged_s = now_s
            self._results.purge()
