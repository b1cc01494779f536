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
