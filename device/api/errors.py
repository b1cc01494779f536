"""Errors of the facade, as problem details (RFC 9457)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from device.errors import DeviceError
from device.secure_store.errors import RecordDamagedError, StoreUnavailableError, TpmBusyError
from sync.outbox import OutboxFullError


class ApiError(DeviceError):
    """The facade cannot serve: settings, certificates or its results file are wrong."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem; `slug` makes its type, which callers may rely on."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        return f"urn:ostiary:problem:{self.slug}"


NO_TOKEN = Kind("no-token", 401, "A bearer token is needed")
BAD_TOKEN = Kind("bad-token", 401, "The token is not valid")
EXPIRED_TOKEN = Kind("expired-token", 401, "The token has expired")
WRONG_CERTIFICATE = Kind("wrong-certificate", 401, "The token belongs to another client certificate")
WRONG_SCOPE = Kind("wrong-scope", 403, "The token's scope does not cover this")
NOT_FOUND = Kind("not-found", 404, "There is nothing here")
NO_RESULT = Kind("no-result", 404, "There is no such transaction; if you sent it, send it again")
NO_CODE = Kind("no-code", 404, "No code is open for this transaction; ask /otp for one")
NO_PERSON = Kind("no-person", 404, "Nobody is enrolled under this id")
NOT_RENEWABLE = Kind("not-renewable", 403, "The token cannot be renewed")
NO_DOOR = Kind("no-door", 404, "The rules have no such door")
METHOD = Kind("method-not-allowed", 405, "The method is not allowed here")
SLOW_BODY = Kind("slow-body", 408, "The body did not arrive in time")
OTHER_BODY = Kind("transaction-taken", 409, "The transaction id was used with another request")
CODE_REFUSED = Kind("code-refused", 409, "The code cannot be used for this")
GONE = Kind("gone", 410, "The transaction has expired; use a new transaction id")
NO_LENGTH = Kind("length-required", 411, "A Content-Length is needed")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
MEDIA_TYPE = Kind("media-type", 415, "The body must be application/json")
BAD_JSON = Kind("bad-json", 400, "The body is not JSON")
BAD_REQUEST = Kind("bad-request", 400, "The request was not understood")
UNREADABLE = Kind("unreadable-recording", 422, "A recording cannot be read; nothing was used up")
INVALID = Kind("invalid", 422, "The body is JSON, but not what this path takes")
UPGRADE = Kind("upgrade-required", 426, "This path is a WebSocket")
BAD_STREAM = Kind("bad-stream", 400, "The stream sent what is not taken here")
NO_STREAM = Kind("no-stream", 404, "There is no such stream to go on with")
NO_SEGMENTATION = Kind("no-segmentation", 503, "This unit cannot tell people apart")
NO_LANGUAGE = Kind("no-language", 503, "This unit cannot hear phrases in that language")
TOO_MANY = Kind("too-many-requests", 429, "Too many requests")
FAULT = Kind("fault", 500, "The unit failed; look at its log")
BUSY = Kind("busy", 503, "Too much is waiting already")
STORE_BUSY = Kind("store-busy", 503, "The store of this unit does not answer now")
DAMAGED_RECORD = Kind("damaged-record", 409, "The voiceprint of this person is damaged")
LOG_FULL = Kind("log-full", 507, "The audit log of this unit is full")

KINDS: tuple[Kind, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Kind))


class ProblemError(Exception):
    """Becomes the problem document of a request."""

    def __init__(
        self, kind: Kind, detail: str, *, retry_after_s: float | None = None, errors: tuple[str, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.errors = errors

    def document(self, instance: str) -> dict[str, Any]:
        """The RFC 9457 members, and `errors`, every mistake, where there are any."""
        body: dict[str, Any] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        return body

    def headers(self) -> dict[str, str]:
        headers = {}
        if self.kind.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="ostiary"'
        if self.kind is WRONG_SCOPE:
            headers["WWW-Authenticate"] = 'Bearer realm="ostiary", error="insufficient_scope"'
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s + 0.5)))
        return headers


def problem_of(error: Exception) -> ProblemError:
    """The problem of a check that could not be made: whether to send it again, and who can mend it."""
    if isinstance(error, OutboxFullError):
        return ProblemError(LOG_FULL, "nothing is decided until an operator makes room in the log")
    if isinstance(error, RecordDamagedError):
        return ProblemError(DAMAGED_RECORD, "forget this person and enrol them again")
    if isinstance(error, TpmBusyError | StoreUnavailableError):
        return ProblemError(STORE_BUSY, "nothing was kept; send it again", retry_after_s=5.0)
    return ProblemError(
        FAULT, "the check could not be made; nothing was kept, send it again", retry_after_s=5.0
    )
