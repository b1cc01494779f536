"""The sentences of a door, in the languages of the data files beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter

from device.access.decision import Notice
from device.errors import DeviceError
from sync.toml_table import toml_table

PROMPTS = ("ready", "name", "prompt", "listening", "thinking")
_PLACES = {"prompt": {"phrase"}, "wait": {"seconds"}}


class LanguageError(DeviceError):
    """A language file is missing or incomplete; the message names every gap."""


@dataclass(frozen=True, slots=True)
class Language:
    """Every sentence of one language. `notices` has one for each Notice, `prompts` one for each stage."""

    code: str
    name: str
    prompts: Mapping[str, str]
    notices: Mapping[Notice, str]
    advice: Mapping[Notice, str]
    """Added when the same thing goes wrong again."""

    def notice(self, notice: Notice, *, tries: int = 1, wait_s: float = 0.0) -> str:
        """The sentence for `notice`; from the second try on with advice."""
        text = self.notices[notice].format(seconds=max(1, round(wait_s)))
        more = self.advice.get(notice)
        return f"{text} {more}" if more and tries > 1 else text

    def prompt(self, phrase: str) -> str:
        return self.prompts["prompt"].format(phrase=phrase)


def languages() -> tuple[str, ...]:
    """The codes there are files for."""
    folder = files("device") / "feedback" / "languages"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


@cache
def language(code: str) -> Language:
    """The language of `code`. Raises LanguageError naming everything that is wrong with its file."""
    known = languages()
    if code not in known:
        raise LanguageError(f"no language `{code}`; there are {', '.join(known)}")
    return parse_language(
        code, (files("device") / "feedback" / "languages" / f"{code}.toml").read_text("utf-8")
    )


def parse_language(code: str, text: str) -> Language:
    """The language in a file's text. Raises LanguageError for missing sentences, unknown keys and places."""
    try:
        table = toml_table(text)
    except ValueError as err:
        raise LanguageError(f"{code}.toml is no TOML file: {err}") from err
    gaps: list[str] = []
    prompts = _sentences(table.get("prompts"), set(PROMPTS), set(PROMPTS), "prompts", gaps)
    every = {str(notice) for notice in Notice}
    notices = _sentences(table.get("notices"), every, every, "notices", gaps)
    advice = _sentences(table.get("advice", {}), set(), every, "advice", gaps)
    name = table.get("name")
    if not isinstance(name, str) or not name:
        gaps.append("name is missing")
    gaps += [f"{key} is no key here" for key in table if key not in {"name", "prompts", "notices", "advice"}]
    if gaps:
        raise LanguageError(f"{code}.toml: {'; '.join(gaps)}")
    return Language(
        code,
        str(name),
        prompts,
        {Notice(key): sentence for key, sentence in notices.items()},
        {Notice(key): sentence for key, sentence in advice.items()},
    )


def _sentences(
    table: object, required: set[str], known: set[str], where: str, gaps: list[str]
) -> dict[str, str]:
    if not isinstance(table, dict):
        gaps.append(f"{where} is missing")
        return {}
    gaps += [f"{where}.{key} is missing" for key in sorted(required - set(table))]
    sentences = {}
    for key, sentence in table.items():
        if key not in known:
            gaps.append(f"{where}.{key} is no key here")
        elif not isinstance(sentence, str) or not sentence.strip():
            gaps.append(f"{where}.{key} must be a sentence")
        elif (wrong := _places(sentence) ^ _PLACES.get(key, set())) and where != "advice":
            gaps.append(f"{where}.{key} has the wrong places in braces: {', '.join(sorted(wrong))}")
        else:
            sentences[key] = sentence
    return sentences


def _places(sentence: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
    except ValueError:
        return {"unbalanced"}
