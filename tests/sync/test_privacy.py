"""Names and free text go into every input; none of it may be in anything that was published or logged."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from sync.errors import MalformedError, SyncError
from sync.events import AuditEvent, pseudonym
from sync.outbox import Outbox, OutboxLimits
from sync.transport.agent import Agent, AgentSettings
from sync.transport.health import check_facts, read_health
from tests.sync.parts import DOORS, TENANT_KEY, UNIT, Clock, SoftwareSigner, event
from tests.sync.transport.test_agent import REGISTRY, FakeLink

NAMES = [
    "Maria Rossi", "maria", "rossi", "ROSSI", "m.rossi", "maria-rossi", "Zoë Kraß", "李雷", "Åsa O'Neill",
    "the pharmacist of ward nine", "please let me in", "i forgot my badge", "<b>x</b>",
    "'; DROP TABLE", "\u202eissor",
]  # fmt: skip
FIELDS = [field.name for field in dataclasses.fields(AuditEvent)]


def disguises(name: str) -> list[Any]:
    raw = name.encode()
    pairs = ((name, 1.0),)
    cased = [name.lower(), name.title(), f" {name} ", name + "\x00"]
    return [name, raw, [name], (name,), {name: name}, {name: 1.0}, pairs, *cased]


def traces(name: str) -> list[bytes]:
    raw = name.encode()
    return [
        raw,
        raw.lower(),
        raw.hex().encode(),
        base64.b64encode(raw).rstrip(b"=")[:-1],
        name.encode("utf-16-le"),
    ]


def test_nothing_that_a_person_is_called_or_says_is_ever_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(11)
    link = FakeLink()
    limits = OutboxLimits(ballast_bytes=0)
    said: list[str] = []
    outbox = Outbox(tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock(), limits=limits)
    agent = Agent(
        log=outbox,
        signer=SoftwareSigner(),
        link=link,  # type: ignore[arg-type]
        registry_key=REGISTRY.public_key(),
        now_s=lambda: 0.0,
        time_ms=Clock(),
        settings=AgentSettings(window=10_000, seal_every_s=0.0),
        facts=lambda: {"software": "1.2", "keystore": "software"},
    )
    accepted = 0
    for number in range(3000):
        name = dice.choice(NAMES)
        changes: dict[str, Any] = {
            "person": pseudonym(TENANT_KEY, name),
            "event_id": uuid.UUID(int=number + 1),
        }
        if dice.random() < 0.9:
            changes[dice.choice(FIELDS)] = dice.choice(disguises(name))
        try:
            outbox.append(event(number, **changes))
            accepted += 1
        except SyncError as err:
            said.append(str(err))
        link.deliver(
            name.encode(), dice.choice([name, f"ostiary/v1/{name}/receipts", "ostiary/v1/a/b/commands"])
        )
    agent.step()
    published = b"".join(name.encode() + payload for name, payload in link.sent)
    assert accepted > 200
    assert outbox.status().sealed == accepted
    assert len(published) > 200 * accepted
    spoken = published + "\n".join([*said, caplog.text]).encode()
    for name in NAMES:
        for trace in traces(name):
            assert trace not in spoken, name


@pytest.mark.parametrize("name", NAMES)
def test_a_health_message_takes_no_name_either(name: str) -> None:
    for facts in ({"software": name}, {name: "1.0"}, {"models": f"{name} 1"}):
        with pytest.raises(MalformedError):
            check_facts(facts)


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_keeps_no_name_of_a_unit_that_says_one(name: str) -> None:
    told = {"state": "online", "note": name, name: 1, "facts": {name: name, "policy": "rules-1"}}
    assert read_health(json.dumps(told).encode()) == {"state": "online", "facts": {"policy": "rules-1"}}
    for wrong in ({"state": name}, {"state": "online", "pending": name}, {"state": "online", "facts": name}):
        with pytest.raises(MalformedError):
            read_health(json.dumps(wrong).encode())
    if name != name.lower() or " " in name:
        with pytest.raises(MalformedError):
            read_health(json.dumps({"state": "online", "facts": {"software": name}}).encode())


@pytest.mark.parametrize("name", ["Maria Rossi", "李雷", "../..", "a/b/c", "#", "+/+", ""])
def test_a_unit_is_never_called_like_a_person_or_a_wildcard(name: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError):
        Outbox(tmp_path / "audit.db", unit=name, doors=DOORS, now_ms=Clock())
