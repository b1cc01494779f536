"""The page in other languages: each text of a template is looked up, without being marked.

When a template is read, each piece of text between two tags, and each attribute that people read, becomes a
look-up; what it inserts becomes `{0}`, `{1}`, so that another language may put it elsewhere. The messages
are the English texts; the other languages are `texts/*.toml`, message by message. A test reads every
template and checks that every language is complete.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import functools
import re
from collections.abc import Iterator
from importlib import resources

from jinja2.ext import Extension
from markupsafe import Markup, escape

from sync.toml_table import toml_table

LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español"}
_now: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")

_JINJA = r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}"
_PIECES = re.compile(
    rf"(?P<block>\{{%.*?%\}}|\{{#.*?#\}})|(?P<insert>\{{\{{.*?\}}\}})"
    rf"|(?P<tag></?[a-zA-Z!](?:{_JINJA}|\"(?:{_JINJA}|[^\"])*\"|[^>\"])*>)|(?P<text>[^<{{]+|.)",
    re.DOTALL,
)
_READ = re.compile(
    rf"(?P<name>\b(?:aria-label|placeholder|title|data-say-[a-z]+|data-text))=\"(?P<value>(?:{_JINJA}|[^\"])*)\""
)
_OPENS = re.compile(r"<(/?)(code|pre|script|style)\b")


def choose(language: str) -> None:
    """The language of whatever this request renders from now on."""
    _now.set(language if language in LANGUAGES else "en")


def current() -> str:
    return _now.get()


def accepted(header: str) -> str:
    """The first language of an Accept-Language header that we speak."""
    for part in header.split(",")[:20]:
        tag = part.partition(";")[0].strip().lower().partition("-")[0]
        if tag in LANGUAGES:
            return tag
    return "en"


def say(message: str, *values: object) -> Markup:
    """A message in the language of this request, with `values` put in, escaped."""
    text = catalogue(_now.get()).get(message, message)
    if not values:
        return Markup(text)  # noqa: S704 - ours: the template's own text, or our file's
    return Markup(text).format(*map(escape, values))  # noqa: S704


def word(text: str) -> str:
    """A text that is no part of a template: a label, a sentence, an error."""
    return catalogue(_now.get()).get(text, text)


def tell(text: str, *values: object) -> str:
    """As `word`, with values put in; values that are texts are looked up too."""
    if not values:
        return word(text)
    return word(text).format(*(word(value) if isinstance(value, str) else value for value in values))


def date(moment: dt.datetime, form: str) -> str:
    """`strftime`, in the order and with the names of days and months of the language of this request.

    A form with a day and a month is a message: each language has its own order.
    """
    form = word(form)
    for code in ("%b", "%B", "%A"):
        if code in form:
            form = form.replace(code, word(moment.strftime(code)))
    return moment.strftime(form)


def day_text(moment: dt.datetime) -> str:
    return date(moment, "%A %-d %B %Y")


def decimal(text: str) -> str:
    """A number as this language writes it: English has a point, the others a comma."""
    return text if _now.get() == "en" else text.replace(".", ",")


def duration(ms: float | None) -> str:
    """A length of time in one or two units: 42 s, 3 min, 2 h 5 min, 4 days."""
    if ms is None:
        return word("never")
    seconds = max(0, round(ms / 1000))
    if seconds < 100:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if hours < 10 and minutes % 60 else f"{hours} h"
    return str(say("{0} days", hours // 24))


@functools.cache
def catalogue(language: str) -> dict[str, str]:
    if language == "en":
        return {}
    file = resources.files("sync.dashboard.wording").joinpath("texts", f"{language}.toml")
    return {entry["en"]: entry["say"] for entry in toml_table(file.read_text("utf-8"))["message"]}


class Texts(Extension):
    """Makes look-ups of a template's texts while it is read."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return "".join(_pieces(source))


def _pieces(source: str) -> Iterator[str]:
    """What the template becomes, piece by piece."""
    run: list[tuple[str, str]] = []
    silent = ""
    for found in _PIECES.finditer(source):
        kind, text = found.lastgroup or "", found[0]
        if kind in ("insert", "text") and not silent:
            run.append((kind, text))
            continue
        yield _said(run)
        run = []
        if kind == "tag":
            opens = _OPENS.match(text)
            if opens and not opens[1] and not silent and not text.endswith("/>"):
                silent = opens[2]
            elif opens and opens[1] and opens[2] == silent:
                silent = ""
            yield _attributes(text)
        else:
            yield text
    yield _said(run)


def _attributes(tag: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        if "{%" in found["value"]:
            return found[0]
        run = [(p.lastgroup or "", p[0]) for p in _PIECES.finditer(found["value"])]
        return f'{found["name"]}="{_said(run)}"'

    return _READ.sub(replaced, tag)


def _said(run: list[tuple[str, str]]) -> str:
    """A run of texts and inserted values as one look-up; unchanged when there is nothing to read in it."""
    whole = "".join(text for _, text in run)
    if not any(kind == "text" and any(c.isalpha() for c in text) for kind, text in run):
        return whole
    begins, ends = len(whole) - len(whole.lstrip()), len(whole.rstrip())
    message, values = "", list[str]()
    for kind, text in run:
        if kind == "insert":
            message += f"{{{len(values)}}}"
            values.append(f"({text[2:-2].strip()})")
        else:
            message += text.replace("{", "{{").replace("}", "}}")
    message = re.sub(r"\s+", " ", message.strip())
    quoted = message.replace("\\", "\\\\").replace('"', '\\"')
    said = f'{{{{ say("{", ".join([quoted + chr(34), *values]) if values else quoted + chr(34)}) }}}}'
    return whole[:begins] + said + whole[ends:]
