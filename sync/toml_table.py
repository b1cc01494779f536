"""The one reader of TOML, for settings, rules and everything else that people or other machines write."""

from __future__ import annotations

import tomllib
from typing import Any


def toml_table(text: str) -> dict[str, Any]:
    """What `text` says. Raises ValueError, in one line, for what is no TOML or is nested without end."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
