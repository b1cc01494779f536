"""What is nested without end is refused like any other text that is no TOML, wherever such a file is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device.access.rules import RulesError, parse_rules
from device.feedback.messages import LanguageError, parse_language
from device.settings import SettingsError, load
from quantize.errors import QuantizeError
from quantize.upstream.sources import load_sources
from sync.dashboard.accounts.oidc import read_provider
from sync.dashboard.site import places
from sync.errors import SyncError
from sync.registry.sinks import load_sinks
from sync.registry.watch.rules import load_rules
from sync.toml_table import toml_table

DEEP = "version = " + "[" * 100_000


def test_text_becomes_its_table() -> None:
    assert toml_table("a = 1\n[b]\nc = [2]") == {"a": 1, "b": {"c": [2]}}


@pytest.mark.parametrize("text", [DEEP, "a = ", "a = 1\na = 2"], ids=["deep", "half", "twice"])
def test_what_is_no_toml_is_one_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        toml_table(text)


READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "settings": (load, SettingsError),
    "rules": (lambda path: parse_rules(path.read_text()), RulesError),
    "language": (lambda path: parse_language("xx", path.read_text()), LanguageError),
    "sources": (load_sources, QuantizeError),
    "alarms": (load_rules, SyncError),
    "sinks": (load_sinks, SyncError),
    "doors": (places.read, SyncError),
    "provider": (read_provider, SyncError),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_endless_nesting_in_one_line(name: str, tmp_path: Path) -> None:
    read, error = READERS[name]
    (tmp_path / "deep.toml").write_text(DEEP)
    with pytest.raises(error) as caught:
        read(tmp_path / "deep.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "0x" + "F" * 5_000, "-" + "9" * 20, "0b1" + "0" * 63, "[[0o7" + "7" * 30 + "]]"]
)
def test_a_number_beyond_64_bits_is_refused_in_plain_words(number: str) -> None:
    with pytest.raises(ValueError, match="it holds a whole number of more than 64 bits"):
        toml_table(f"a = 1\n[b]\nc = {number}")


def test_the_largest_and_the_smallest_number_of_64_bits_are_read() -> None:
    assert toml_table(f"a = {2**63 - 1}\nb = {-(2**63)}") == {"a": 2**63 - 1, "b": -(2**63)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "at its end: a key without `=`"),
        ("a = b", "line 1, column 5: no value stands there"),
        ("b = 1\na = [1", "at its end: a `[` without its `]`"),
        ("a = 1\na = 2\n", "a key is there twice"),
        ("[a]\n[a]\n", "line 2, column 3: a table is there twice"),
        ("a = 24:00", "a value of a form that TOML does not have"),
        ('a = "x\ny"', "quotes that do not end on their line"),
        ('a = "\\q"', "a backslash stands in quotes"),
    ],
)
def test_a_mistake_is_told_by_its_place_and_in_our_words(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^(line \d+, column \d+|at its end): ") as caught:
        toml_table(text)
    assert told in str(caught.value)
