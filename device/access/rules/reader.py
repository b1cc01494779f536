"""Reads typed values out of a TOML table and collects every mistake instead of stopping at the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from sync.plain_words import one_line

_MACHINES_ZONES = re.compile("(Factory|localtime|posixrules)$|right/|posix/")


class Reader:
    """One table of a rules file. Values that are wrong are reported and replaced by their default."""

    def __init__(self, table: dict[str, Any], where: str, mistakes: list[str]) -> None:
        self._table = table
        self._where = where
        self._mistakes = mistakes
        self._asked: set[str] = set()

    def wrong(self, key: str, complaint: str) -> None:
        """Report a mistake at `key`."""
        self._mistakes.append(f"{one_line(self._path(key))} {one_line(complaint)}")

    def has(self, key: str) -> bool:
        return key in self._table

    def text(self, key: str, default: str | None = None, choices: Iterable[str] | None = None) -> str:
        """A string; required when there is no default, one of `choices` when they are given."""
        value: str | None = self._value(key, str, "a text", default)
        if value is None or key not in self._table:
            return default or ""
        return self._chosen(key, value, choices, default or "")

    def texts(self, key: str, choices: Iterable[str] | None = None) -> frozenset[str]:
        """A list of strings, empty when absent."""
        known = None if choices is None else list(choices)
        found = set()
        for item in self._value(key, list, "a list of texts", []):
            if not isinstance(item, str):
                self.wrong(key, f"must hold texts only, not {item!r}")
            elif known is None or item in known:
                found.add(item)
            else:
                self._chosen(key, item, known, "")  # says which are there
        return frozenset(found)

    def texts_or_text(self, key: str) -> frozenset[str]:
        """A list of strings, or one string; empty when absent."""
        if isinstance(self._table.get(key), str):
            return frozenset(filter(None, [self.text(key)]))
        return self.texts(key)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A finite number within [low, high]."""
        value = self._value(key, (int, float), "a number", default)
        if not low <= value <= high:  # NaN is not, either
            self.wrong(key, f"must be from {low:g} to {high:g}, not {value}")
            return default
        return float(value)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        value: int = self._value(key, int, "a whole number", default)
        if not low <= value <= high:
            self.wrong(key, f"must be from {low} to {high}, not {value}")
            return default
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self._value(key, bool, "true or false", default))

    def clock(self, key: str, default: time) -> time:
        """A time of day, written as `07:30:00` or as the text "07:30"."""
        value = self._value(key, (time, str), 'a time such as "07:30"', default)
        try:
            clock = value if isinstance(value, time) else _clock(str(value))
        except ValueError:
            self.wrong(key, f'must be a time such as "07:30", not {value!r}')
            return default
        if clock.tzinfo is not None:
            self.wrong(key, f"must be a time without a zone, for `calendar.time_zone` holds, not {value!r}")
            return default
        return clock

    def moment(self, key: str) -> datetime | None:
        """A date with time and offset, or None when absent."""
        value: datetime | None = self._value(key, datetime, "a date with time and offset", None)
        if value is not None and value.tzinfo is None:
            self.wrong(key, "needs an offset, such as 2026-12-01T18:00:00+01:00")
            return None
        return value

    def zone(self, key: str) -> tzinfo:
        """A time zone of IANA, the same on every machine; UTC when absent."""
        name = self.text(key, "UTC")
        if name == "UTC":
            return UTC
        try:
            if not _MACHINES_ZONES.match(name):
                return ZoneInfo(name)
            self.wrong(key, f"names `{name}`, which is another time on another machine")
        except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
            self.wrong(key, f"cannot be read for `{name}`")
        except KeyError:
            self.wrong(key, f"names `{name}`, which is no IANA time zone, such as Europe/Rome")
        return UTC

    def dates(self, key: str) -> frozenset[date]:
        found = set()
        for item in self._value(key, list, "a list of dates", []):
            if isinstance(item, date) and not isinstance(item, datetime):
                found.add(item)
            else:
                self.wrong(key, f"must hold dates such as 2026-12-25, not {item!r}")
        return frozenset(found)

    def table(self, key: str) -> Reader:
        """The sub-table, empty when absent."""
        return Reader(self._value(key, dict, "a table", {}), self._path(key), self._mistakes)

    def each(self, key: str) -> Iterator[tuple[str, Reader]]:
        """Every named sub-table of a table."""
        for name, item in self._value(key, dict, "a table of tables", {}).items():
            if isinstance(item, dict):
                yield name, Reader(item, f"{self._path(key)}.{name}", self._mistakes)
            else:
                self.wrong(key, f"must hold tables, but `{name}` is {item!r}")

    def listed(self, key: str) -> Iterator[Reader]:
        """Every table of an array of tables."""
        for number, item in enumerate(self._value(key, list, "an array of tables", []), start=1):
            if isinstance(item, dict):
                yield Reader(item, f"{self._path(key)}[{number}]", self._mistakes)
            else:
                self.wrong(key, f"must hold tables, not {item!r}")

    def finish(self) -> None:
        """Report every key that was never asked for."""
        for key in self._table:
            if key not in self._asked:
                self.wrong(key, f"is no key here{nearest(key, self._asked)}")

    def _value(self, key: str, kind: Any, wanted: str, default: Any) -> Any:
        """What the table has at `key`, of `kind`; `default` where it is missing or of another kind."""
        self._asked.add(key)
        if key not in self._table:
            if default is None and kind is str:
                self.wrong(key, "is missing")
            return default
        value = self._table[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(key, f"must be {wanted}, not {value!r}")
            return default
        return value

    def _chosen(self, key: str, value: str, choices: Iterable[str] | None, default: str) -> str:
        if choices is None:
            return value
        known = list(choices)
        if value in known:
            return value
        self.wrong(key, f"names `{value}`, which is not there{nearest(value, known)}")
        return default

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known: {', '.join(names)}" if names else ""


def _clock(text: str) -> time:
    """Raises ValueError for what is no time, and for "07.30", which half of Europe writes for half past seven
    and Python takes for 0.3 s after seven."""
    clock = time.fromisoformat(text)
    if "." in text or "," in text:
        raise ValueError("a fraction")
    return clock
