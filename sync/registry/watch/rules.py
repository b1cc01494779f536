"""Rules as data: read from TOML, every mistake reported at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from sync.errors import SyncError
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.toml_table import toml_table
from sync.vocabulary import KINDS

Severity = Literal["info", "warning", "critical"]
SILENT_ALARM = "SILENT_ALARM"
"""Among a rule's kinds: any event in which the duress word was said."""
MAX_RULES_BYTES = 64 * 1024
_NEEDS: dict[str, tuple[str, ...]] = {
    "burst": ("kinds", "per", "window_s", "threshold"),
    "travel": ("kinds", "window_s"),
    "spike": ("hours_utc", "days", "threshold", "probability"),
    "silence": (),
    "outage": ("threshold",),
    "drift": (),
    "backlog": ("window_s",),
    "clock": ("window_s",),
    "certificate": ("days",),
    "access": ("window_s", "threshold"),
    "revocations": ("window_s", "days"),
}
"""Form of a rule -> the fields that it must have."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; which fields count depends on its form."""

    name: str
    form: str
    severity: Severity
    kinds: frozenset[str] = frozenset()
    per: str = "door"
    window_s: int = 300
    threshold: int = 1
    doors: int = 1
    hours_utc: frozenset[int] = frozenset()
    days: int = 28
    least_days: int = 7
    probability: float = 1e-6


def load_rules(path: Path | None = None) -> list[Rule]:
    """The rules in `path`, or ours. Raises SyncError that lists every mistake."""
    try:
        if path is None:
            text = resources.files("sync.registry.watch").joinpath("rules.toml").read_text(encoding="utf-8")
        elif path.stat().st_size > MAX_RULES_BYTES:
            raise SyncError(f"{path.name} is too large for a file of rules")
        else:
            text = plain_text(path)
        tables = toml_table(text).get("rule", [])
    except (OSError, ValueError) as err:
        raise SyncError(f"the rules cannot be read: {what_and_why(err)}") from err
    problems: list[str] = []
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SyncError("rules are [[rule]] tables")
    rules = [_rule(number, table, problems) for number, table in enumerate(tables, start=1)]
    if problems:
        raise SyncError("the rules have mistakes: " + "; ".join(problems))
    if not tables:
        raise SyncError("a file of rules without a rule would watch nothing")
    return [rule for rule in rules if rule is not None]


def tail_probability(count: int, past: Sequence[int]) -> float:
    """How likely `count` or more events in an hour are, given the same hour on past days.

    The posterior predictive of a Poisson rate under a Gamma(1/2, 0) (Jeffreys) prior is a negative binomial:
    few days of history make wide expectations, so a new door accuses nobody.
    """
    shape, days = sum(past) + 0.5, len(past)
    if not days:
        return 1.0
    success = days / (days + 1)
    below = 0.0
    for n in range(count):
        log_mass = math.lgamma(n + shape) - math.lgamma(shape) - math.lgamma(n + 1)
        below += math.exp(log_mass + shape * math.log(success) + n * math.log1p(-success))
    return max(0.0, 1.0 - below)


def _rule(number: int, table: dict[str, Any], problems: list[str]) -> Rule | None:
    name = table.get("name", f"number {number}")
    found: list[str] = []
    known = {field.name for field in fields(Rule)}
    found += [f"{name}: {key} is unknown" for key in table if key not in known]
    form = str(table.get("form"))
    if form not in _NEEDS:
        found.append(f"{name}: form must be one of {', '.join(_NEEDS)}")
    else:
        found += [f"{name}: {key} is missing" for key in _NEEDS[form] if key not in table]
    if table.get("severity") not in get_args(Severity):
        found.append(f"{name}: severity must be one of {', '.join(get_args(Severity))}")
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or name != name.upper():
        found.append(f"{name}: a name is UPPER_CASE")
    kinds = table.get("kinds", [])
    found += [f"{name}: {kind} is no kind of event" for kind in kinds if kind not in KINDS | {SILENT_ALARM}]
    if table.get("per", "door") not in ("door", "unit", "site", "everything"):
        found.append(f"{name}: per must be door, unit, site or everything")
    for key in ("window_s", "threshold", "doors", "days", "least_days"):
        value = table.get(key, 1)
        if type(value) is not int or not 1 <= value <= 10_000_000:
            found.append(f"{name}: {key} must be a positive whole number")
    problems += found
    if found:
        return None
    values = dict(table)
    for key in ("kinds", "hours_utc"):
        if key in values:
            values[key] = frozenset(values[key])
    return Rule(**values)
