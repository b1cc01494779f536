"""Request bodies: bytes to frozen values, every mistake reported at once. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from device.access.challenge import Style, lacks
from device.api.errors import BAD_JSON, INVALID, ProblemError
from device.evidence.phrase import normalise, unsayable
from device.evidence.vocabulary import Language
from device.models.speaker import MIN_ENROLMENT
from sync.person_id import PersonIdError, person_id, plain_text

TID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
CODE_PATTERN = r"^[0-9A-F]{4}$"
NAME_PATTERN = r"^[!-~](?:[ -~]{0,62}[!-~])?$"
UID_PATTERN = r"^[^\x00-\x1F\x7F]{1,64}$"
"""As far as a pattern can tell; `sync/person_id.py` checks the rest."""
ANY_PATTERN = r"[\s\S]{0,1000}"
BASE64_PATTERN = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"
TEXT_PATTERN = r"^[^\x00-\x1F\x7F]{0,500}$"
STREAM_PATTERN = r"^[A-Za-z0-9_-]{24}$"
MAX_RECORDINGS = 10
MIN_PHRASE_WORDS, MAX_PHRASE_WORDS, MAX_PHRASE_CHARACTERS = 3, 12, 120
_MAX_ERRORS = 16


@dataclass(frozen=True, slots=True)
class OtpRequest:
    """Ask for a code to be spoken. `door` names the rule that a later /verify may ask for."""

    tid: str
    uid: str
    text: str = ""
    style: Style = Style.WORDS
    door: str = ""
    phrase: str = ""
    """The caller's own phrase; never for a door's rule."""
    language: Language = Language.ENGLISH


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """Enrol a person from recordings, each the content of a WAV or FLAC file."""

    tid: str
    uid: str
    audio: tuple[bytes, ...]
    consent_to: str = ""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """Check one recording. Without `code` the phrase is the one /otp gave for this transaction."""

    tid: str
    uid: str
    audio: bytes
    code: str = ""
    door: str = ""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The first message: whom to score, whether to name enrolled people; or which stream to go on with."""

    uid: str = ""
    known: bool = False
    resume: str = ""
    after: int = 0


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises ProblemError for anything else."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as err:
        reason = "too deep" if isinstance(err, RecursionError) else str(err)[:200]
        raise ProblemError(BAD_JSON, f"not JSON that this unit reads: {reason}") from None
    if not isinstance(value, dict):
        raise ProblemError(INVALID, "the body must be an object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return table


def otp_request(table: dict[str, Any], usual: Language = Language.ENGLISH) -> OtpRequest:
    """Raises ProblemError (422) naming every mistake. `usual`: the language where the caller names none."""
    fields = _Fields(table, {"tid", "uid", "text", "style", "door", "phrase", "language"})
    tid, uid = fields.text("tid", TID_PATTERN), fields.normal("uid", person_id)
    text = fields.normal("text", plain_text, optional=True)
    named = fields.text("style", f"^(?:{'|'.join(Style)})$", optional=True)
    style = Style(named) if named else Style.WORDS
    language = Language(fields.text("language", f"^(?:{'|'.join(Language)})$", optional=True) or usual)
    door = fields.text("door", NAME_PATTERN, optional=True)
    phrase = fields.normal("phrase", partial(own_phrase, language=language), optional=True)
    if why := lacks(style, language):
        fields.wrong(f"`language` is `{language}`: {why}")
    if phrase and (door or named):
        fields.wrong(
            "`phrase` goes with neither `door` nor `style`: a door's rule takes phrases of the unit only"
        )
    fields.done()
    return OtpRequest(tid, uid, text, style, door, phrase, language)


def register_request(table: dict[str, Any]) -> RegisterRequest:
    """Raises ProblemError (422) naming every mistake."""
    fields = _Fields(table, {"tid", "uid", "audio", "consent_to"})
    tid, uid = fields.text("tid", TID_PATTERN), fields.normal("uid", person_id)
    consent_to = fields.text("consent_to", NAME_PATTERN, optional=True)
    audio = fields.recordings("audio")
    fields.done()
    return RegisterRequest(tid, uid, audio, consent_to)


def verify_request(table: dict[str, Any]) -> VerifyRequest:
    """Raises ProblemError (422) naming every mistake."""
    fields = _Fields(table, {"tid", "uid", "audio", "code", "door"})
    tid, uid = fields.text("tid", TID_PATTERN), fields.normal("uid", person_id)
    code = fields.text("code", CODE_PATTERN, optional=True)
    door = fields.text("door", NAME_PATTERN, optional=True)
    audio = fields.recording("audio", table.get("audio"))
    fields.done()
    return VerifyRequest(tid, uid, audio, code, door)


def stream_request(table: dict[str, Any]) -> StreamRequest:
    """Raises ProblemError (422) naming every mistake."""
    fields = _Fields(table, {"uid", "known", "resume", "after"})
    uid = fields.normal("uid", person_id, optional=True)
    resume = fields.text("resume", STREAM_PATTERN, optional=True)
    known, after = fields.flag("known"), fields.whole("after")
    if resume and (uid or known):
        fields.wrong("`resume` goes with `after` alone: the stream is what it was")
    fields.done()
    return StreamRequest(uid, known, resume, after)


def uid_of(text: str) -> str:
    """The id in an address, empty when there is none. Raises ProblemError (422)."""
    try:
        return person_id(text) if text else ""
    except PersonIdError as err:
        raise ProblemError(INVALID, f"the id cannot be taken: {err}") from err


def own_phrase(text: str, language: Language = Language.ENGLISH) -> str:
    """A caller's phrase with single spaces. Raises PersonIdError."""
    words = plain_text(text).split()
    if not MIN_PHRASE_WORDS <= len(words) <= MAX_PHRASE_WORDS or len(text) > MAX_PHRASE_CHARACTERS:
        raise PersonIdError(
            f"it has {len(words)} words; {MIN_PHRASE_WORDS} to {MAX_PHRASE_WORDS} of them in "
            f"{MAX_PHRASE_CHARACTERS} characters can be heard"
        )
    if letter := unsayable(text, language):
        raise PersonIdError(f"it holds {letter!a}, a letter or sign that is not listened for")
    said = normalise(" ".join(words), language)
    if len(set(said)) < MIN_PHRASE_WORDS:
        raise PersonIdError(f"it holds {len(set(said))} different words that can be said")
    return " ".join(words)


class _Fields:
    """Takes fields out of a table and collects their mistakes."""

    def __init__(self, table: dict[str, Any], known: set[str]) -> None:
        self._table = table
        self._errors = [f"`{_shown(name)}` is not known here" for name in table if name not in known]

    def text(self, name: str, pattern: str, *, optional: bool = False) -> str:
        if name not in self._table:
            if not optional:
                self._errors.append(f"`{name}` is missing")
            return ""
        value = self._table[name]
        # Whole match: `$` alone would let a line feed through.
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self._errors.append(f"`{name}` must be a string that matches {pattern}")
            return ""
        return value

    def normal(self, name: str, form: Callable[[str], str], *, optional: bool = False) -> str:
        """A string in its normal form."""
        value = self.text(name, ANY_PATTERN, optional=optional)
        try:
            return form(value) if value or name in self._table else ""
        except PersonIdError as err:
            self._errors.append(f"`{name}` cannot be taken: {err}")
            return ""

    def recordings(self, name: str) -> tuple[bytes, ...]:
        value = self._table.get(name)
        if not isinstance(value, list) or not MIN_ENROLMENT <= len(value) <= MAX_RECORDINGS:
            self._errors.append(f"`{name}` must be a list of {MIN_ENROLMENT} to {MAX_RECORDINGS} recordings")
            return ()
        return tuple(self.recording(f"{name}[{at}]", item) for at, item in enumerate(value))

    def recording(self, name: str, value: Any) -> bytes:
        try:
            content = base64.b64decode(value.encode("ascii"), validate=True)
        except (AttributeError, ValueError, binascii.Error):
            content = b""
        if not content or len(value) % 4:
            self._errors.append(f"`{name}` must be the Base64 of a WAV or FLAC file")
        return content

    def flag(self, name: str) -> bool:
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            self._errors.append(f"`{name}` must be true or false")
        return value is True

    def whole(self, name: str) -> int:
        value = self._table.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**53:
            self._errors.append(f"`{name}` must be a whole number from 0 up")
            return 0
        return value

    def wrong(self, text: str) -> None:
        self._errors.append(text)

    def done(self) -> None:
        if self._errors:
            raise ProblemError(INVALID, self._errors[0], errors=tuple(self._errors[:_MAX_ERRORS]))


def _shown(name: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in name[:40])
