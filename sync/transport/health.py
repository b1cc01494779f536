"""The health message: numbers and versions of a unit, signed and counted.

A sign of life that anybody could forge or replay would hide a unit that was cut off. Only the will, which the
broker sends for a unit that fell silent, is unsigned: it says `offline` and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId, version_text
from sync.vocabulary import KEYSTORES

HEALTH_TYPE = "application/ostiary-health+json"
WILL = b'{"state": "offline"}'
MAX_HEALTH_BYTES = 3800
STATES = frozenset({"online", "stopped", "offline"})
NUMBERS = (
    "counter",
    "time_ms",
    "sequence",
    "pending",
    "oldest_ms",
    "overflow",
    "resends",
    "refused",
    "messages_refused",
    "commands",
    "connect_failures",
    "every_s",
    "certificate_ms",
)
FACTS = frozenset(
    {
        "software",
        "models",
        "policy",
        "settings",
        "keystore",
        "profile",
        "simulated",
        "document",
        "people",
        "fleet_people",
        "over",
        "not_over",
        "standing",
        "why",
        "threats",
    }
)
STANDINGS = frozenset({"applied", "trial", "refused", "went_back"})
"""What became of the fleet's last document, whose number is the fact `document`."""
WHYS = frozenset(
    {
        "none",
        "fault",
        "locks_everybody_out",
        "models_refused",
        "not_confirmed",
        "people_refused",
        "restarted",
        "rules_refused",
    }
)
FACT_WORDS = KEYSTORES | {"production", "laptop"} | STANDINGS | WHYS

Facts = Mapping[str, str | int | bool]


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raises MalformedError for a fact with free text, or one that is not listed."""
    for name, value in facts.items():
        if name not in FACTS:
            raise MalformedError("a health message has a fact that is not on the list")
        if type(value) is str:
            if value not in FACT_WORDS:
                version_text(value)
        elif type(value) not in (bool, int) or abs(value) > MAX_TIME_MS:
            raise MalformedError("a fact is a version, a number, or true or false")


def write_health(state: str, numbers: Mapping[str, int | None], facts: Facts) -> bytes:
    """The message, not yet signed. Raises MalformedError for facts that must not leave the unit."""
    check_facts(facts)
    return json.dumps({"state": state, **numbers, "facts": dict(facts)}, sort_keys=True).encode()


def read_health(payload: bytes) -> dict[str, Any]:
    """The known entries of a message; those of a newer unit are left out. Raises MalformedError."""
    if len(payload) > MAX_HEALTH_BYTES:
        raise MalformedError("an oversized health message")
    try:
        report = json.loads(payload)
    except (ValueError, RecursionError) as err:
        raise MalformedError("a health message is not JSON") from err
    if not isinstance(report, dict) or type(report.get("state")) is not str or report["state"] not in STATES:
        raise MalformedError("a health message of an unknown form")
    told: dict[str, Any] = {"state": report["state"]}
    for name in NUMBERS:
        value = report.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= MAX_TIME_MS):
            raise MalformedError("a health message has a mistyped number")
        if name in report:
            told[name] = value
    facts = report.get("facts", {})
    if not isinstance(facts, dict):
        raise MalformedError("a health message has mistyped facts")
    told["facts"] = {name: value for name, value in facts.items() if name in FACTS}
    check_facts(told["facts"])
    return told


def signed_health(unit: UnitId, report: bytes, signer: Signer) -> bytes:
    """`report`, of `write_health`, as a COSE_Sign1 whose payload begins with the unit's name."""
    return cose.sign1(unit.encode() + b"\n" + report, signer, HEALTH_TYPE)


def open_health(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> dict[str, Any]:
    """What `unit` signed, `counter` and `time_ms` in it. Raises MalformedError or ProofError.

    The caller checks that the counter is higher than every one before.
    """
    name, _, report = cose.open1(message, key, HEALTH_TYPE).partition(b"\n")
    if name != unit.encode():
        raise ProofError("a health message of another unit")
    told = read_health(report)
    if not all(type(told.get(name)) is int for name in ("counter", "time_ms")):
        raise MalformedError("a health message without its number and time")
    if not 1 <= told["counter"] <= MAX_SEQUENCE:
        raise MalformedError("a health message with a number out of range")
    return told
