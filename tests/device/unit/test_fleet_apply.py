"""What a unit is to be: applied whole or not at all, rehearsed first, taken back where it does not decide."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.errors import DeviceError
from device.model_store import slots
from device.model_store.minimum_versions import pinned_document, pinned_minimum
from device.unit.assembly import rules_of
from sync.keys import FileSigner
from sync.orders.desired import Contents, Part
from sync.registry.fleet import wanted
from sync.registry.fleet.people import Fleet
from sync.transport.topics import DESIRED
from tests.device.commands.dying import lives_until
from tests.device.door_world import evidence
from tests.device.model_store.bundles import make_bundle
from tests.device.secure_store.people import same_voice, with_door
from tests.device.unit.fleet_world import DOOR, DoorUnit, Hospital, rules
from tests.waiting import wait_until

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WARD = "st-mary/ward"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path / "hospital")
    made.unit(WARD).enrol("ANNA", 1)
    yield made
    made.close()


@pytest.fixture
def ward(hospital: Hospital) -> DoorUnit:
    return hospital.units[WARD]


def bundle(hospital: Hospital, version: int, key: Ed25519PrivateKey = KEY) -> dict[str, Any]:
    """A signed bundle that the registry hands out; what is wanted of it."""
    folder = hospital.folder / f"bundle-{version}-{key.private_bytes_raw()[0]}"
    if not folder.exists():
        make_bundle(folder, version=version, key=key)
    manifest = (folder / "manifest.json").read_bytes()
    with hospital.registry.transaction() as db:
        part = wanted.keep_part(db, manifest)
        for path in folder.iterdir():
            wanted.keep_part(db, path.read_bytes())
    signature = (folder / "manifest.sig").read_bytes().hex()
    public = key.public_key().public_bytes_raw().hex()
    return {"manifest": wanted.part_value(part), "signature": signature, "key": public}


def name_of(value: dict[str, Any]) -> str:
    return str(value["manifest"][0])


def in_use(unit: DoorUnit) -> str:
    found = slots.read_slots(unit.models)
    return "" if found is None else found.current


def test_rules_take_effect_at_once_and_the_unit_reports_them(hospital: Hospital, ward: DoorUnit) -> None:
    hospital.want_rules("site:st-mary", rules(7), 7)
    hospital.settle()
    assert ward.controller.rules.version == 7
    assert ward.standing() == (1, "applied", "none")
    assert hospital.screen().well
    assert ward.events()[-1] == "POLICY_APPLIED"


@pytest.mark.parametrize("file", ["rules.toml", "applied/standing.json"])
def test_rules_that_a_full_disk_did_not_take_are_taken_up_by_a_later_look(
    hospital: Hospital, ward: DoorUnit, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    into_place, full = os.replace, [True]

    def replace(made: Path, path: Path) -> None:
        if full and str(path).endswith(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        into_place(made, path)

    monkeypatch.setattr(os, "replace", replace)
    hospital.want_rules("site:st-mary", rules(7), 7)
    with pytest.raises((OSError, DeviceError), match=r"No space|disk is full"):
        hospital.settle()
    assert ward.controller.rules.version == 0
    with pytest.raises((OSError, DeviceError), match=r"No space|disk is full"):
        ward.follower.look()
    full.clear()
    ward.follower.look()
    ward.follower.look()
    assert (ward.controller.rules.version, ward.standing()) == (7, (1, "applied", "none"))
    assert ward.events().count("POLICY_APPLIED") == 1


def test_the_narrower_wish_counts_and_another_site_hears_nothing(hospital: Hospital, ward: DoorUnit) -> None:
    other = hospital.unit("st-luke/ward")
    wanted.set_tags(hospital.registry, ward.name, frozenset({"zone:icu", "tag:first"}))
    for version, scope in enumerate(("all", "site:st-mary", "zone:icu", "tag:first", f"unit:{WARD}"), 1):
        hospital.want_rules(scope, rules(version), version)
        hospital.settle()
        assert ward.controller.rules.version == version
    assert other.controller.rules.version == 1


def test_thresholds_stand_in_every_risk_class_until_they_are_wanted_no_more(
    hospital: Hospital, ward: DoorUnit
) -> None:
    hospital.want_rules("all", rules(3), 3)
    hospital.want("site:st-mary", thresholds={"voice_llr": 4.5})
    hospital.settle()
    assert ward.controller.rules.risks["standard"].thresholds.voice_llr == 4.5
    hospital.want("site:st-mary", thresholds=None)
    hospital.settle()
    assert ward.controller.rules.risks["standard"].thresholds.voice_llr == 3.0


@pytest.mark.parametrize(
    "which", ["replayed", "reordered", "foreign key", "foreign unit", "expired", "future"]
)
def test_a_document_that_must_not_count_changes_nothing(
    hospital: Hospital, ward: DoorUnit, which: str
) -> None:
    hospital.want_rules("all", rules(5), 5)
    hospital.settle()
    first = hospital.retained[WARD]
    hospital.want_rules("all", rules(6), 6)
    hospital.settle()
    part = hospital.part(ward, rules(9))
    assert isinstance(part, Part)
    contents, now = Contents(rules=part), hospital.clock.ms()
    other = hospital.unit("st-mary/other")
    stranger = FileSigner.load_or_create(hospital.folder / "stranger.key")
    own = hospital.key
    if which == "foreign key":
        hospital.key = stranger
    message = {
        "replayed": first,
        "reordered": hospital.document(ward, 1, contents),
        "foreign key": hospital.document(ward, 9, contents),
        "foreign unit": hospital.document(other, 9, contents),
        "expired": hospital.document(ward, 9, contents, issued_ms=now - 9000, expires_ms=now - 1),
        "future": hospital.document(ward, 9, contents, issued_ms=now + 90_000, expires_ms=now + 99_000),
    }[which]
    hospital.key = own
    before = ward.holds()
    assert not hospital.deliver(ward, DESIRED, message)
    (ward.state / "desired/document").write_bytes(message)  # an uplink that lets everything through
    (ward.state / "desired/parts" / part.sha256.hex()).write_bytes(rules(9))
    for _ in range(3):
        ward.follower.look()
    assert ward.controller.rules.version == ward.restart().controller.rules.version == 6
    assert ward.holds().keys() == before.keys()
    assert ward.standing()[0] == 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (rules(8, role="surgeon", more=""), "locks_everybody_out"),
        (rules(8, role="nurse", more=""), "applied"),  # she is one
        (rules(8, role="nurse", more="").replace(b"ANNA", b"BRUNO"), "locks_everybody_out"),
        (rules(8).replace(b"ward", b"attic"), "rules_refused"),
        (b"version = ", "rules_refused"),
        (rules(8) + b"[thresholds]\nvoice_llr = 11.0\n", "not_confirmed"),
    ],
)
def test_rules_under_which_nobody_could_pass_are_refused_and_said_so(
    hospital: Hospital, ward: DoorUnit, data: bytes, why: str
) -> None:
    hospital.want_rules("all", rules(5), 5)
    hospital.settle()
    hospital.want_rules("all", data, 8)
    hospital.settle()
    if why == "applied":
        assert ward.controller.rules.version == 8
        return
    assert ward.standing() == (2, "refused", why)
    assert ward.controller.rules.version == ward.restart().controller.rules.version == 5
    assert "POLICY_REFUSED" in ward.events()
    (line,) = hospital.screen().behind
    assert "kept what it had" in line.trouble


def test_thresholds_that_no_clear_attempt_reaches_are_refused(hospital: Hospital, ward: DoorUnit) -> None:
    hospital.want_rules("all", rules(5), 5)
    hospital.want("all", thresholds={"phrase_llr": 12.0})
    hospital.settle()
    assert ward.standing()[1:] == ("refused", "not_confirmed")


def test_new_models_are_on_trial_until_they_have_decided_and_stayed_up(
    hospital: Hospital, ward: DoorUnit
) -> None:
    wish = bundle(hospital, 1)
    hospital.want("all", bundle=wish)
    hospital.settle(until=lambda: ward.ended == 1)
    assert (in_use(ward), ward.standing()[1]) == (name_of(wish), "trial")
    ward.restart()
    assert pinned_minimum(ward.store.vault) is None, "nothing is pinned that it may have to leave"
    hospital.clock.passes(10)
    settle_trial(ward)
    assert ward.standing()[1] == "trial"
    hospital.clock.passes(60)
    settle_trial(ward)
    hospital.settle()
    assert ward.standing()[1] == "applied"
    minimum = pinned_minimum(ward.store.vault)
    assert minimum is not None
    assert minimum.version == 1
    assert "MODELS_APPLIED" in ward.events()
    assert hospital.screen().well


def test_models_that_do_not_decide_a_recorded_attempt_are_taken_back_with_their_rules(
    hospital: Hospital, ward: DoorUnit
) -> None:
    good, bad = confirmed(hospital, ward, 1), bundle(hospital, 2)
    hospital.want_rules("all", rules(9), 9)
    hospital.want("all", bundle=bad)
    hospital.settle(until=lambda: ward.ended == 2)
    assert in_use(ward) == name_of(bad)
    ward.finds = evidence(voice=-5.0)
    ward.restart()
    hospital.clock.passes(1)
    settle_trial(ward)
    assert ward.ended == 3, "it starts again with the old ones"
    ward.finds = evidence()
    ward.restart()
    assert (in_use(ward), ward.controller.rules.version) == (name_of(good), 0)
    assert ward.standing()[1:] == ("went_back", "not_confirmed")
    hospital.settle()
    (line,) = hospital.screen().behind
    assert "went back: a recorded attempt was not decided" in line.trouble
    hospital.want_rules("all", rules(10), 10)
    hospital.settle()
    assert (in_use(ward), ward.controller.rules.version) == (name_of(good), 10), "not tried again"


def test_a_judge_that_never_answers_is_taken_back_after_its_time(hospital: Hospital, ward: DoorUnit) -> None:
    good = confirmed(hospital, ward, 1)
    hospital.want("all", bundle=bundle(hospital, 2))
    hospital.settle(until=lambda: ward.ended == 2)
    ward.judging = threading.Event()
    ward.restart()
    ward.follower.look()
    hospital.clock.passes(61)
    ward.follower.look()
    ward.judging.set()
    ward.judging = None
    ward.restart()
    assert (in_use(ward), ward.standing()[1]) == (name_of(good), "went_back")


def test_a_unit_that_restarts_twice_on_trial_goes_back(hospital: Hospital, ward: DoorUnit) -> None:
    good = confirmed(hospital, ward, 1)
    bad = bundle(hospital, 2)
    hospital.want("all", bundle=bad)
    hospital.settle(until=lambda: ward.ended == 2)
    for wanted_now in (name_of(bad), name_of(bad), name_of(good)):
        ward.restart()
        assert in_use(ward) == wanted_now
    assert ward.standing()[1:] == ("went_back", "restarted")
    hospital.settle()
    assert ward.events().count("CHANGE_TAKEN_BACK") == 1, "in its log"
    ward.restart()
    hospital.settle()
    assert ward.events().count("CHANGE_TAKEN_BACK") == 1, "once"
    hospital.settle()
    (line,) = hospital.screen().behind
    assert "went back: it restarted" in line.trouble


def test_a_unit_without_signed_models_goes_back_to_what_it_had(hospital: Hospital, ward: DoorUnit) -> None:
    hospital.want("all", bundle=bundle(hospital, 1))
    hospital.settle(until=lambda: ward.ended == 1)
    make_bundle(ward.folder / "models-built", version=1, key=KEY)
    for path in (ward.folder / "models-built").iterdir():
        (ward.models / path.name).write_bytes(path.read_bytes())
    for _ in range(3):
        ward.restart()
    assert in_use(ward) == ""


@pytest.mark.parametrize("which", ["other key", "older", "changed file"])
def test_models_that_must_not_be_used_are_refused_and_the_rest_goes_on(
    hospital: Hospital, ward: DoorUnit, which: str
) -> None:
    good = confirmed(hospital, ward, 2)
    other = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    wish = {
        "other key": lambda: bundle(hospital, 3, other),
        "older": lambda: bundle(hospital, 1),
        "changed file": lambda: bundle(hospital, 3) | {"signature": "00" * 64},
    }[which]()
    hospital.want("all", bundle=wish)
    hospital.want_rules("all", rules(4), 4)
    hospital.settle()
    assert (in_use(ward), ward.controller.rules.version) == (name_of(good), 4)
    assert ward.standing()[1:] == ("refused", "models_refused")


def test_a_part_that_was_swapped_on_the_way_is_fetched_again(hospital: Hospital, ward: DoorUnit) -> None:
    hospital.want_rules("all", rules(5), 5)
    (message,) = [message for unit, message in hospital.publish() if unit == WARD]
    hospital.retained[WARD] = message
    part = Part.of(rules(5))
    (ward.state / "desired/parts" / part.sha256.hex()).write_bytes(rules(6))
    hospital.settle()
    assert ward.controller.rules.version == 5


def test_killed_at_any_write_a_unit_is_the_old_or_the_new_and_never_a_mixture(tmp_path: Path) -> None:
    """Rules, models, one person who comes and one who goes: all of it or nothing, at every kill -9."""
    seen = kills(tmp_path, at_most=40)
    assert seen.killed >= 30
    assert seen.mixtures == []
    assert seen.old
    assert seen.new


@dataclass
class Kills:
    killed: int
    old: int
    new: int
    mixtures: list[tuple[int, object]]


def kills(folder: Path, at_most: int) -> Kills:
    """Apply one document over and over, killed at each of `at_most` writes evenly, and look what it is then.

    The unit is put back on the disk as it was before each time.
    """
    hospital = Hospital(folder / "hospital")
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit(WARD)
    hospital.want("unit:st-mary/desk", enrols=True)
    hospital.want_rules(f"unit:{WARD}", rules(1), 1)
    for uid, seed in (("ANNA", 1), ("BRUNO", 2)):
        desk.enrol(uid, seed)
    hospital.doors("ANNA", "all")
    confirmed(hospital, ward, 1)
    hospital.settle()
    old = (1, in_use(ward), ("ANNA",), pinned_document(ward.store.vault))
    assert ward.store.vault.uids() == ("ANNA",)
    hospital.offline.add(WARD)
    hospital.doors("ANNA")
    hospital.doors("BRUNO", "all")
    hospital.settle(until=lambda: sealed_for(hospital, "BRUNO"))
    hospital.want_rules(f"unit:{WARD}", rules(2), 2)
    hospital.want("all", bundle=bundle(hospital, 2))
    hospital.settle()
    # The document and its parts have come; nothing is applied yet.
    hospital.offline.clear()
    fetch(hospital, ward)
    ward.crash()
    before = folder / "before"
    shutil.copytree(ward.folder, before)

    def again() -> None:
        shutil.rmtree(ward.folder)
        shutil.copytree(before, ward.folder)

    def apply() -> None:
        ward.start()
        ward.follower.look()

    writes = lives_until(None, apply)
    assert writes is not None
    found = after(ward)
    new = (2, name_of(bundle(hospital, 2)), ("BRUNO",), found[3])
    assert found == new
    points = sorted({round(1 + n * (writes - 1) / max(1, at_most - 1)) for n in range(at_most)})
    seen = Kills(0, 0, 0, [])
    for point in points:
        again()
        if lives_until(point, apply) is not None:
            continue
        seen.killed += 1
        state = after(ward)
        if state == old:
            seen.old += 1
        elif state == new:
            seen.new += 1
        else:
            seen.mixtures.append((point, state))
    hospital.close()
    return seen


def after(unit: DoorUnit) -> tuple[int, str, tuple[str, ...], int]:
    """What the unit is once it has started again: rules, models, people, document."""
    unit.start()
    try:
        version = rules_of(unit.state, DOOR).version
        assert version == unit.controller.rules.version
        vault = unit.store.vault
        for uid, seed in (("ANNA", 1), ("BRUNO", 2)):
            assert uid not in vault.uids() or same_voice(vault.template(uid), with_door(seed))
        return version, in_use(unit), vault.uids(), pinned_document(vault)
    finally:
        unit.crash()


class PowerCutError(BaseException):
    """Nothing of a unit outlives it."""


def fetch(hospital: Hospital, unit: DoorUnit) -> None:
    """Carry the document and every part, and stop before the unit applies anything."""
    hospital.deliver(unit, DESIRED, hospital.retained[unit.name])
    finds, unit.finds = unit.finds, PowerCutError()  # the first thing that applying does is to try the rules
    for _ in range(40):
        try:
            unit.follower.look()
        except PowerCutError:
            break
        hospital.clock.passes(0.3)
        hospital.carry(unit)
    else:
        raise AssertionError("the parts never came")
    unit.finds = finds


def sealed_for(hospital: Hospital, uid: str) -> bool:
    with hospital.registry.reading() as db:
        return (uid, WARD) in Fleet.read(db).envelopes


def confirmed(hospital: Hospital, unit: DoorUnit, version: int) -> dict[str, Any]:
    """The unit works with these models, and its trial is over."""
    wish, ended = bundle(hospital, version), unit.ended
    hospital.want("all", bundle=wish)
    for other in list(hospital.units.values()):
        if other is not unit:
            hospital.offline.add(other.name)
    hospital.settle(until=lambda: unit.ended == ended + 1)
    unit.restart()
    hospital.clock.passes(1)
    settle_trial(unit)
    hospital.clock.passes(61)
    settle_trial(unit)
    hospital.offline.clear()
    assert unit.standing()[1] == "applied"
    return wish


def settle_trial(unit: DoorUnit) -> None:
    """Look until the thread that judges the recorded attempt has answered."""
    unit.follower.look()
    wait_until(lambda: not any(thread.name == "trial" for thread in threading.enumerate()))
    unit.follower.look()
