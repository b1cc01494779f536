"""Prints do not say who spoke, judged by people that they were not fitted on."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from device.models.spoof.prints import seen, shipped
from quantize.evaluate.campaigns.measure import heard, same_person
from quantize.evaluate.campaigns.runs import Seen
from quantize.evaluate.campaigns.sources import chosen, listen
from quantize.evaluate.recordings.manifest import Recording, read_manifest

PEOPLE, EACH = 20, 3
LEAST_EER = 0.2
"""Of telling one person from two: 0.5 is chance. Each attempt is at a door of its own."""


def test_prints_seldom_tell_one_person_from_another(development_data: Path) -> None:
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in chosen(read_manifest(development_data / "manifest.tsv", development_data), fitted=False):
        if one.folder == "an4":
            by[one.unit].append(one)
    people = [some[:EACH] for _, some in sorted(by.items()) if len(some) >= EACH][:PEOPLE]
    said = listen([one for some in people for one in some], development_data)
    found = [
        Seen(one.who, False, shipped()(seen(heard(one, door))), door, "an4") for door, one in enumerate(said)
    ]
    assert len({one.who for one in found}) >= PEOPLE // 2
    assert same_person(found, within=True) > LEAST_EER
