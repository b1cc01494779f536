"""The open streams, those of callers who were cut off and may come back included."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from device.access.voices import voiceprint
from device.api.bodies import StreamRequest
from device.api.errors import BUSY, NO_PERSON, NO_SEGMENTATION, NO_STREAM, ProblemError
from device.api.limits import Rate
from device.audio.utterance import Samples
from device.clock import Clock
from device.conversation.known import NobodyKnownError, known_people
from device.conversation.opening import ConversationModels
from device.conversation.streams.stream import Event, Stream
from device.errors import DeviceError
from device.settings import ApiSettings
from device.unit.assembly import Tools

Document = dict[str, Any]
KEPT_EVENTS = 512
"""Of one stream, some minutes of them, for a caller who comes back."""
CHECK_EVERY_S = 10.0
"""So much sound counts as one check of the claimed person's voice."""


@dataclass(slots=True, eq=False)
class Session:
    """One stream, with or without a connection."""

    name: str
    client: str
    uid: str
    stream: Stream
    parts: ExitStack
    events: deque[Document] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    told: int = 0
    samples: int = 0
    attached: bool = True
    left_s: float = 0.0
    charged_samples: int = 0

    def add(self, found: list[Event]) -> list[Document]:
        """Number events and keep the latest; returns them as they are sent."""
        documents = []
        for event in found:
            self.told += 1
            documents.append({"seq": self.told, **event.document()})
        self.events.extend(documents)
        return documents

    def after(self, seq: int) -> list[Document]:
        """Every event after `seq`. Raises ProblemError when some are no longer kept."""
        oldest = self.told - len(self.events)
        if not oldest <= seq <= self.told:
            raise ProblemError(NO_STREAM, "what was told since then is not kept any more; begin a new stream")
        return [document for document in self.events if document["seq"] > seq]


class Hub:
    """Belongs to one event loop. Sound is heard on threads of its own, never on the judge's."""

    def __init__(
        self,
        settings: ApiSettings,
        tools: Tools,
        open_models: Callable[[], ConversationModels] | None,
        people: Rate,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._open_models = open_models
        self._models: ConversationModels | None = None
        self._people = people
        self.clock = clock
        self._sessions: dict[str, Session] = {}
        self._opening = 0
        self._pool = ThreadPoolExecutor(max_workers=settings.stream_threads, thread_name_prefix="api-stream")

    @property
    def open(self) -> int:
        """Streams that hold room, those of callers who may come back included."""
        return len(self._sessions) + self._opening

    def reserve(self) -> None:
        """Raises ProblemError where there is no room for one more stream, or no model."""
        self._drop_left()
        if self._open_models is None:
            raise ProblemError(NO_SEGMENTATION, "this unit serves no streams")
        if self.open >= self._settings.max_streams:
            raise ProblemError(
                BUSY, f"{self.open} streams are open, the most that this unit takes", retry_after_s=5.0
            )

    async def begin(self, client: str, request: StreamRequest) -> Session:
        """A new stream. Raises ProblemError: no room, no such person, asked too often, no model."""
        self.reserve()
        self._opening += 1
        try:
            if request.uid:
                self._people.take(request.uid, self.clock().monotonic_s)
            stream, parts = await self._in_thread(lambda: self._opened(request))
        finally:
            self._opening -= 1
        session = Session(secrets.token_urlsafe(18), client, request.uid, stream, parts)
        self._sessions[session.name] = session
        return session

    def resume(self, client: str, request: StreamRequest) -> Session:
        """This caller's stream of that name, without a connection. Raises ProblemError."""
        self._drop_left()
        session = self._sessions.get(request.resume)
        if session is None or session.client != client or session.attached:
            raise ProblemError(NO_STREAM, "there is no such stream to go on with; begin a new one")
        session.after(request.after)
        session.attached = True
        return session

    async def hear(self, session: Session, samples: Samples) -> list[Document]:
        """The events of these samples. Raises ProblemError for a person checked too often."""
        if session.uid:
            due = session.samples + len(samples) - session.charged_samples
            if due >= CHECK_EVERY_S * 16_000:
                self._people.take(session.uid, self.clock().monotonic_s)
                session.charged_samples = session.samples + len(samples)
        found = await self._in_thread(lambda: session.stream.push(samples))
        session.samples += len(samples)
        return session.add(found)

    async def finish(self, session: Session) -> list[Document]:
        """The last events, at the caller's end."""
        found = session.add(await self._in_thread(session.stream.finish))
        self.end(session)
        return found

    def leave(self, session: Session) -> None:
        """Note that the connection is gone; the stream waits for a while."""
        if session.name in self._sessions:
            session.attached = False
            session.left_s = self.clock().monotonic_s

    def end(self, session: Session) -> None:
        """Overwrite what the stream holds and give its room back."""
        if self._sessions.pop(session.name, None) is not None:
            session.stream.close()
            session.parts.close()
            session.events.clear()

    def close(self) -> None:
        """End every stream."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for session in list(self._sessions.values()):
            self.end(session)

    def _drop_left(self) -> None:
        now_s = self.clock().monotonic_s
        for session in list(self._sessions.values()):
            if not session.attached and now_s - session.left_s > self._settings.stream_resume_s:
                self.end(session)

    def _opened(self, request: StreamRequest) -> tuple[Stream, ExitStack]:
        """On a thread of the pool: models are opened by the first stream that needs them."""
        if self._models is None:
            try:
                if self._open_models is None:
                    raise DeviceError("this unit serves no streams")
                self._models = self._open_models()
            except DeviceError as err:
                raise ProblemError(NO_SEGMENTATION, str(err)) from err
        models, vault = self._models, self._tools.store.vault
        with ExitStack() as parts:
            claimed = known = None
            if request.uid:
                with voiceprint(vault, request.uid, models.speaker.version) as vector:
                    if vector is None:
                        raise ProblemError(
                            NO_PERSON, "nobody is enrolled under this id whose voice may be used"
                        )
                    claimed = vector.copy()
            if request.known:
                try:
                    known = parts.enter_context(known_people(vault, models, self._tools.settings))
                except NobodyKnownError as err:
                    raise ProblemError(NO_PERSON, str(err)) from err
            return Stream(models, claimed=claimed, known=known), parts.pop_all()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
