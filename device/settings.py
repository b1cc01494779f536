"""One frozen Settings tree: defaults, one TOML file, one pass of checks that reports every mistake."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from device.errors import DeviceError

MAX_SETTINGS_BYTES = 64 * 1024


class SettingsError(DeviceError):
    """The settings file is wrong; the message lists every mistake in it."""


def state_dir() -> Path:
    """Where this unit keeps what it must not lose: $OSTIARY_STATE_DIR, else ~/.local/state/ostiary."""
    chosen = os.environ.get("OSTIARY_STATE_DIR")
    return Path(chosen) if chosen else Path.home() / ".local" / "state" / "ostiary"


def models_dir() -> Path:
    """Where the models lie: $OSTIARY_MODELS_DIR, else `models` in the state directory."""
    chosen = os.environ.get("OSTIARY_MODELS_DIR")
    return Path(chosen) if chosen else state_dir() / "models"


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Which door this is and how long its strike stays released."""

    name: str = "door-1"
    unit: str = "unit-1"
    unlock_s: float = field(default=5.0, metadata={"min": 0.5, "max": 30.0})
    challenge_style: str = field(default="words", metadata={"choices": ("words", "digits", "code")})


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How much of the machine one judgement may use."""

    threads: int = field(default=2, metadata={"min": 1, "max": 16})
    timeout_s: float = field(default=10.0, metadata={"min": 0.5, "max": 60.0})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator may set. Each leaf carries its own limits."""

    door: DoorSettings = field(default_factory=DoorSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)


def load(path: Path | None = None) -> Settings:
    """Settings from `path`, else from $OSTIARY_CONFIG, else the defaults.

    Raises SettingsError naming every unknown key, wrong type and value out of range at once.
    """
    if path is None:
        chosen = os.environ.get("OSTIARY_CONFIG")
        if not chosen:
            return Settings()
        path = Path(chosen)
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise SettingsError(f"{path} is larger than {MAX_SETTINGS_BYTES} bytes; is it the right file?")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise SettingsError(f"cannot read settings from {path}: {err}") from err
    mistakes: list[str] = []
    settings: Settings = build(Settings, table, "", mistakes)
    if mistakes:
        raise SettingsError(f"{path}: " + "; ".join(mistakes))
    return settings


def build(kind: type[Any], table: dict[str, Any], prefix: str, mistakes: list[str]) -> Any:
    """A `kind` from `table`; what is wrong is appended to `mistakes` and the default kept."""
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"
            mistakes.append(f"unknown key `{prefix}{key}`{hint}")
            continue
        wanted = hints[key]
        if is_dataclass(wanted):
            if isinstance(value, dict):
                values[key] = build(typing.cast("type[Any]", wanted), value, f"{prefix}{key}.", mistakes)
            else:
                mistakes.append(f"`{prefix}{key}` must be a table")
            continue
        mistake, converted = _convert(value, wanted, known[key].metadata)
        if mistake:
            mistakes.append(f"`{prefix}{key}` {mistake}")
        else:
            values[key] = converted
    try:
        return kind(**values)
    except ValueError as err:
        mistakes.append(f"`{prefix.rstrip('.') or 'settings'}`: {err}")
        return kind()


def _convert(value: Any, wanted: Any, limits: typing.Mapping[str, Any]) -> tuple[str | None, Any]:
    if isinstance(wanted, types.UnionType):
        wanted = next(a for a in typing.get_args(wanted) if a is not types.NoneType)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is Path and isinstance(value, str):
        value = Path(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        return f"must be a {wanted.__name__}, not {type(value).__name__}", None
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite", None
    if "choices" in limits and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}, not {value!r}", None
    if "min" in limits and value < limits["min"]:
        return f"must be at least {limits['min']}, not {value}", None
    if "max" in limits and value > limits["max"]:
        return f"must be at most {limits['max']}, not {value}", None
    return None, value
