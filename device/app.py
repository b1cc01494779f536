"""The whole appliance on one screen: build the parts, run the loop, stop in reverse."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from device.access.claims import Claim
from device.access.decision import Decision, Outcome
from device.audio import AudioSource
from device.door import Door
from device.feedback.display import Display
from device.model_store.sessions import give_memory_back
from device.unit.assembly import Unit
from device.unit.attempts import listened_on, named, served
from device.unit.succession.following import followed_on
from device.unit.succession.growth import grown_on


def run(
    unit: Unit,
    claims: Iterable[Claim],
    source: AudioSource,
    door_name: str,
    door: Door,
    display: Display,
    stop: threading.Event,
) -> Iterator[Decision]:
    """Serve one door until the claims end or `stop` is set; yields each decision once it is carried out."""
    if not unit.asks_for_claim(door_name):
        unit.voices.at(
            door_name, unit.controller.rules, unit.clock().monotonic_s
        )  # before anybody waits for it
    for claim in claims:
        who = named(unit, claim, source, door_name, display, stop)
        del claim
        more = True
        while more and not stop.is_set():
            made = served(unit, who, source, door_name, display, stop)
            decision = made.decision
            door.obey(decision)
            display.tell(decision)
            made = listened_on(unit, made)
            grown_on(unit, made, door_name)
            followed_on(unit, made, door_name)
            give_memory_back()
            yield decision
            more = decision.outcome is Outcome.STEP_UP  # one more phrase, from the same person
            del made, decision
        del who  # nobody is remembered while nobody is there
        if stop.is_set():
            return
