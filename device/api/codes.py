"""One-time codes for transactions, from a challenge book as the door has one.

Open codes live in memory, so a restart ends them all. The store's counter of challenges gives the epoch, so
that no code of another start is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device.access.challenge import (
    Binding,
    Challenge,
    ChallengeBook,
    ChallengeError,
    ChallengeSettings,
    PhraseMemory,
    Style,
)
from device.access.decision import Outcome, RefusalError
from device.api.bodies import OtpRequest, VerifyRequest
from device.api.errors import CODE_REFUSED, GONE, NO_CODE, OTHER_BODY, ProblemError
from device.api.results import Transaction
from device.clock import Now
from device.secure_store.signing import Mac

MAX_OPEN = 256


@dataclass(frozen=True, slots=True)
class _Open:
    asked: Transaction
    challenge: Challenge


class CodeIssuer:
    """Issues codes and redeems each once. Not safe for threads: the event loop alone uses it."""

    def __init__(
        self, unit: str, next_epoch: Callable[[], int], mac: Mac, memory: PhraseMemory, lifetime_s: float
    ) -> None:
        self._unit = unit
        self._next_epoch = next_epoch
        self._mac = mac
        self._memory = memory
        self._lifetime_s = lifetime_s
        self._book: ChallengeBook | None = None
        self._open: OrderedDict[bytes, _Open] = OrderedDict()

    def issue(self, asked: Transaction, request: OtpRequest, now: Now) -> dict[str, Any]:
        """The phrase to speak, as JSON types; the same for the same request while it is open.

        Raises ProblemError: 409 for another request under this id, 410 for an expired phrase.
        """
        self._drop_old(now)
        known = self._open.get(asked.key)
        if known is not None:
            if known.asked.fingerprint != asked.fingerprint:
                raise ProblemError(OTHER_BODY, "another code was asked for under this transaction id")
            if _left_s(known.challenge, now) <= 0.0:
                raise ProblemError(GONE, "the code of this transaction has expired")
            return _shown(request, known.challenge, now)
        binding = Binding(self._unit, request.door, request.uid, request.tid, request.text)
        style = Style.WORDS if request.phrase else request.style
        settings = ChallengeSettings(style=style, lifetime_s=self._lifetime_s)
        if self._book is None:  # the counter may cost a write to flash, so an idle start takes none
            self._book = ChallengeBook(self._unit, self._next_epoch(), self._prefixed, self._memory)
        try:
            challenge = self._book.issue(binding, settings, now, request.phrase, request.language)
        except ChallengeError as err:
            if not request.phrase:
                raise
            raise ProblemError(CODE_REFUSED, str(err)) from err
        self._open[asked.key] = _Open(asked, challenge)
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return _shown(request, challenge, now)

    def redeem(self, key: bytes, request: VerifyRequest, now: Now) -> Challenge | None:
        """The challenge that this request answers, now used up; None when the caller gave its own code.

        Raises ProblemError when there is no code, or it is another's, another door's, or late.
        """
        known = self._open.pop(key, None)
        if known is None:
            if request.code and not request.door:
                return None
            raise ProblemError(
                NO_CODE, "ask /otp for a code and send the answer to it; codes do not outlive a restart"
            )
        challenge = known.challenge
        if request.code and challenge.code != request.code:
            raise ProblemError(CODE_REFUSED, "another code was given out for this transaction")
        if self._book is None:
            raise ProblemError(NO_CODE, "ask /otp for a code")
        try:
            return self._book.redeem(
                challenge, door=request.door, person=request.uid, speech_began_s=now.monotonic_s
            )
        except RefusalError as err:
            kind = GONE if err.decision.outcome is Outcome.DENIED_EXPIRED else CODE_REFUSED
            raise ProblemError(kind, err.decision.reason) from err

    def _prefixed(self, purpose: str, message: bytes) -> bytes:
        """The door's challenges and these never share a key."""
        return self._mac(f"api {purpose}", message)

    def _drop_old(self, now: Now) -> None:
        for key, known in list(self._open.items()):
            if _left_s(known.challenge, now) < -60.0:
                del self._open[key]


def _left_s(challenge: Challenge, now: Now) -> float:
    return challenge.issued_s + challenge.lifetime_s - now.monotonic_s


def _shown(request: OtpRequest, challenge: Challenge, now: Now) -> dict[str, Any]:
    return {
        "tid": request.tid,
        "uid": request.uid,
        "style": str(challenge.style),
        "language": str(challenge.language),
        "phrase": challenge.display if challenge.style is Style.CODE else challenge.phrase,
        "display": challenge.display,
        "code": challenge.code or None,
        "issued_at": challenge.issued_at,
        "expires_in_s": round(max(0.0, _left_s(challenge, now)), 1),
    }
