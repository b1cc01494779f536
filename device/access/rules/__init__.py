"""The rules of a unit's doors: one TOML file, checked as a whole."""

from device.access.rules.load import RulesError, load_rules, parse_rules
from device.access.rules.model import Door, Permission, Person, RiskClass, Rules, Schedule, default_rules

__all__ = [
    "Door",
    "Permission",
    "Person",
    "RiskClass",
    "Rules",
    "RulesError",
    "Schedule",
    "default_rules",
    "load_rules",
    "parse_rules",
]
