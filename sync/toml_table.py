"""Reads TOML: settings, rules, and every other table that people or machines write."""

from __future__ import annotations

import logging
import re
import tomllib
from typing import Any

_LOG = logging.getLogger(__name__)
_WORDS = (
    ("Expected '='", "a key without `=` and a value"),
    ("Invalid statement", "neither a key nor a table begins so"),
    ("Invalid initial character", "no key begins so"),
    ("Invalid value", "no value stands there: text stands in quotes, yes and no are `true` and `false`"),
    ("Cannot overwrite", "a key is there twice"),
    ("Duplicate inline", "a key is there twice"),
    ("Cannot declare", "a table is there twice"),
    ("Cannot mutate", "a table that is written in one line is added to"),
    ("Expected newline", "a value of a form that TOML does not have, or a second one on the line"),
    ("Unescaped", "a backslash stands in quotes; write two of them, or use ' as quotes"),
    ("Illegal character", "a sign that does not print, or quotes that do not end on their line"),
    ("Unclosed array", "a `[` without its `]`"),
    ("Unclosed inline", "a `{` without its `}`"),
    ("Expected ']", "a `[` without its `]`"),
    ('Expected "', "quotes that do not end"),
    ("Unterminated", "quotes that do not end"),
)
"""How `tomllib` begins, and what it means."""
_TOO_LARGE = "it holds a whole number of more than 64 bits"


def toml_table(text: str) -> dict[str, Any]:
    """The table in `text`. Raises ValueError, of one line, for text that is no TOML, nested without end, or
    that holds a whole number beyond the 64 bits that TOML promises: Python cannot always show one."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except tomllib.TOMLDecodeError as err:
        raise ValueError(_no_toml(str(err))) from err
    except ValueError:  # of Python, which reads no number of thousands of digits
        raise ValueError(_TOO_LARGE) from None
    waiting: list[Any] = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(_TOO_LARGE)
    return table


def _no_toml(said: str) -> str:
    _LOG.debug("tomllib says: %s", said)
    place = re.search(r"\(at (line \d+, column \d+)\)$", said)
    words = next((words for begins, words in _WORDS if said.startswith(begins)), "this is no TOML")
    return f"{place[1] if place else 'at its end'}: {words}"
