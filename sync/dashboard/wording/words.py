"""What a person reads for each word of the events' vocabulary; the texts are data, in `words.toml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sync.dashboard.wording.languages import word
from sync.toml_table import toml_table

GRANTED = ("GRANTED",)
LET_IN = ("GRANTED", "DURESS")
ATTACKS = ("DENIED_SPOOF", "DENIED_REPLAY")
ALARMS = (
    "DURESS", "DOOR_FORCED_OPEN", "DOOR_OPEN_TOO_LONG", "EMERGENCY_RELEASE", "TAMPER", "OUTBOX_OVERFLOW",
    "MODELS_REFUSED", "POLICY_REFUSED", "CHANGE_TAKEN_BACK", "COMMAND_REFUSED", "FAULT",
)  # fmt: skip
REFUSED = (
    "DENIED_PHRASE", "DENIED_VOICE", "DENIED_SPOOF", "DENIED_REPLAY", "DENIED_EXPIRED", "DENIED_QUALITY",
    "DENIED_SCHEDULE", "DENIED_RULE", "DENIED_UNKNOWN", "DENIED_FAULT", "LOCKOUT_MAX_ATTEMPTS",
    "PASSBACK_DETECTED", "LOCK_DOWN",
)  # fmt: skip
DOOR = (
    "DOOR_FORCED_OPEN", "DOOR_OPEN_TOO_LONG", "DOOR_OPENED", "DOOR_CLOSED", "EMERGENCY_RELEASE", "EGRESS",
    "TAMPER", "UNLOCKED", "RELOCKED",
)  # fmt: skip
UNIT = (
    "BOOT", "SHUTDOWN", "CLOCK_SET", "OUTBOX_OVERFLOW", "ENROLMENT_BEGUN", "ENROLLED", "ERASURE_BEGUN",
    "FORGOTTEN", "CONSENT_EXPIRED", "POLICY_APPLIED", "POLICY_REFUSED", "CHANGE_TAKEN_BACK", "MODELS_APPLIED",
    "MODELS_REFUSED", "THREATS_APPLIED", "COMMAND_APPLIED", "COMMAND_REFUSED", "KEYS_ROTATED", "FAULT",
    "SUCCESSOR_HEARD", "SUCCESSOR_READY", "SUCCESSOR_DROPPED",
    "VOICE_OFTEN_REFUSED", "VOICE_FOLLOWED", "VOICE_FOLLOWS_DROPPED",
)  # fmt: skip
GROUPS = {
    "granted": ("Let in", GRANTED),
    "refused": ("Refused", REFUSED),
    "attacks": ("Attacks", ATTACKS),
    "alarms": ("Alarms", ALARMS),
    "doors": ("Doors", DOOR),
    "units": ("Units", UNIT),
}

LOOK = "Look at the events below and decide."
FACTS = {
    "software": "Software", "models": "Models", "policy": "Rules", "settings": "Settings",
    "keystore": "Keys", "profile": "Profile", "simulated": "Simulated", "document": "Fleet document",
    "people": "People", "standing": "Its standing", "threats": "Threat list", "over": "Grown voiceprints",
    "not_over": "Voiceprints that still grow", "why": "Why",
}  # fmt: skip
"""What a unit tells of itself, for people."""


@dataclass(frozen=True, slots=True)
class Word:
    """A few words, and how they look: tone is good, bad, attack, alarm, door or unit."""

    short: str
    tone: str


@functools.cache
def data() -> dict[str, dict[str, Any]]:
    """`words.toml`: kinds, reasons and alarms, in English."""
    return toml_table(resources.files("sync.dashboard.wording").joinpath("words.toml").read_text("utf-8"))


def kind(name: str) -> Word:
    found = data()["kinds"].get(name)
    return Word(word(found["short"]), found["tone"]) if found else Word(name, "unit")


def reason(name: str) -> str:
    return word(str(data()["reasons"].get(name, name)))


def reasons() -> dict[str, str]:
    return {name: word(text) for name, text in data()["reasons"].items()}


def alarm(name: str) -> str:
    """What happened, in a line. A rule of the site's own keeps its name."""
    return word(str(data()["alarms"].get(name, {}).get("short", name.replace("_", " ").capitalize())))


def what_to_do(name: str) -> str:
    return word(str(data()["alarms"].get(name, {}).get("do", LOOK)))
