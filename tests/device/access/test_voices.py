"""Voiceprints in the clear: for how long, whose, and that changes are seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from device.access.rules import default_rules, parse_rules
from device.access.voices import MAX_AGE_S, GalleryCache, alike, claimed, gallery, voiceprint
from device.evidence.gallery import Galleries, Gallery
from device.evidence.judge import Judge
from device.evidence.voice.copies import MADE
from device.evidence.voice.held import Generations
from device.evidence.voice.in_noise import FITTED_ON
from device.evidence.voice.phrases import shift_of
from device.secure_store import Growing, Store, StoreSettings, open_store
from tests.device.secure_store.people import MODEL, with_door
from tests.device.secure_store.people import voiceprint as made
from tests.kept import is_overwritten

RULES = default_rules("door-1")
NEXT = "next-256@1"
ALONE, SINCE = Generations(None, MODEL), Generations(None, NEXT)
COMING_OVER = Generations(MODEL, NEXT)
"""The newer model follows, or has followed: anybody who comes over is held against both."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    settings = StoreSettings(profile="laptop", keystore="software")
    with open_store(tmp_path / "unit", settings, warn=lambda _: None) as opened:
        for number, uid in enumerate(("ANNA", "BRUNO", "CARLA")):
            opened.vault.enrol(uid, made(number))
        yield opened


def llr(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other)


def who(cache: GalleryCache, seed: int, now_s: float = 0.0, rules: object = RULES) -> str:
    found = cache.at("door-1", rules, now_s).identify(made(seed).vector, llr)  # type: ignore[arg-type]
    assert found is not None
    return found.uid if found.llr > 0.99 else ""


def test_a_template_is_overwritten_when_the_attempt_is_over(store: Store) -> None:
    with voiceprint(store.vault, "ANNA", MODEL) as vector:
        assert vector is not None
        assert vector.any()
    assert not vector.any()


def test_a_door_vector_comes_with_a_claim_and_is_overwritten_with_it(store: Store) -> None:
    expected = with_door(7, FITTED_ON).door
    assert expected is not None
    store.vault.enrol("ANNA", with_door(7, FITTED_ON))
    for models in (Generations(None, FITTED_ON), Generations(FITTED_ON, NEXT)):
        with claimed(store.vault, "ANNA", models) as voice:
            assert voice is not None
            assert voice.door is not None
            assert np.allclose(voice.door, expected.vector, atol=1e-6)
            door = voice.door
        assert not door.any()


def test_in_a_conversation_the_door_vector_stands_for_a_person_who_has_one(store: Store) -> None:
    both = with_door(7, FITTED_ON)
    assert both.door is not None
    store.vault.enrol("ANNA", both)
    store.vault.enrol("BRUNO", made(8, FITTED_ON))
    for uid, in_rooms, expected in (
        ("ANNA", True, both.door.vector),
        ("ANNA", False, both.vector),
        ("BRUNO", True, made(8, FITTED_ON).vector),
    ):
        with voiceprint(store.vault, uid, FITTED_ON, in_rooms=in_rooms) as vector:
            assert vector is not None
            assert np.allclose(vector, expected, atol=1e-6)
        assert not vector.any()


def test_of_how_many_phrases_a_voiceprint_was_made_counts_for_a_claim_and_in_a_search(store: Store) -> None:
    store.vault.enrol("ANNA", replace(made(7, FITTED_ON), utterances=5))
    models, probe = Generations(None, FITTED_ON), made(7, FITTED_ON).vector
    with claimed(store.vault, "ANNA", models) as voice:
        assert voice is not None
        assert voice.phrases == 5
    with gallery(store.vault, RULES, "door-1", models) as people:
        assert isinstance(people, Gallery)
        found = people.identify(probe, llr)
        assert found is not None
        assert (found.uid, found.llr) == ("ANNA", pytest.approx(1.0 + shift_of(FITTED_ON, 5).enrolled))


@pytest.mark.parametrize(
    ("model", "how"), [(FITTED_ON, "rooms 2"), (MODEL, MADE)], ids=["another making", "another model"]
)
def test_a_door_vector_without_a_calibration_here_counts_for_nothing(
    store: Store, model: str, how: str
) -> None:
    store.vault.enrol("ANNA", with_door(7, model, how))
    with claimed(store.vault, "ANNA", Generations(None, model)) as voice:
        assert voice is not None
        assert voice.door is None


def test_a_gallery_has_the_door_vectors_of_those_who_have_one(store: Store) -> None:
    store.vault.enrol("ANNA", with_door(7, FITTED_ON))
    store.vault.enrol("BRUNO", made(8, FITTED_ON))
    probe = with_door(7).door
    assert probe is not None
    with gallery(store.vault, RULES, "door-1", Generations(None, FITTED_ON)) as people:
        assert isinstance(people, Gallery)
        at_a_desk, in_a_room = people.identify(probe.vector, llr), people.identify(probe.vector, llr, llr)
    assert at_a_desk is not None
    assert in_a_room is not None
    assert at_a_desk.llr < 0.5
    assert (in_a_room.uid, in_a_room.llr) == ("ANNA", pytest.approx(1.0, abs=1e-5))
    assert is_overwritten(people)


@pytest.mark.parametrize(("uid", "model"), [("nobody", MODEL), ("", MODEL), ("ANNA", "another-model@2")])
def test_who_is_not_enrolled_under_this_model_has_no_template(store: Store, uid: str, model: str) -> None:
    with voiceprint(store.vault, uid, model) as vector:
        assert vector is None


def test_a_gallery_holds_those_who_may_ever_pass_and_is_overwritten(store: Store) -> None:
    rules = parse_rules("""
version = 1
[risks.r]
[zones.z]
[doors.door-1]
zone = "z"
risk = "r"
[[allow]]
roles = ["nurse"]
[people.anna]
roles = ["nurse"]
[people.bruno]
roles = ["nurse"]
disabled = true
[people.carla]
roles = []
""")
    with gallery(store.vault, rules, "door-1", ALONE) as voices:
        assert len(voices) == 1
        found = voices.identify(made(0).vector, llr)
        assert found is not None
        assert found.uid == "ANNA"
    assert is_overwritten(voices)


def test_a_cached_gallery_sees_who_was_enrolled_and_forgotten_and_new_rules(store: Store) -> None:
    cache = GalleryCache(store.vault, ALONE)
    assert who(cache, 1) == "BRUNO"
    first = cache.at("door-1", RULES, 1.0)
    assert cache.at("door-1", RULES, 2.0) is first
    store.vault.forget("BRUNO")
    assert who(cache, 1) == ""
    assert is_overwritten(first)
    store.vault.enrol("DORA", made(9))
    assert who(cache, 9) == "DORA"
    nobody = replace(RULES, version=5, admit_unlisted=False)
    assert len(cache.at("door-1", nobody, 3.0)) == 0
    cache.close()


def test_a_cached_gallery_is_opened_anew_after_an_hour_for_consents_run_out(store: Store) -> None:
    cache = GalleryCache(store.vault, ALONE)
    first = cache.at("door-1", RULES, 0.0)
    assert cache.at("door-1", RULES, MAX_AGE_S) is first
    assert cache.at("door-1", RULES, MAX_AGE_S + 1.0) is not first
    cache.close()


def grown(*, ready: bool) -> Growing:
    rows = np.random.default_rng(3).standard_normal((3, 256)).astype(np.float32)
    return Growing(NEXT, (1, 2, 3), rows / np.linalg.norm(rows, axis=1, keepdims=True), ready)


def test_what_has_grown_is_asked_beside_what_was_enrolled_and_never_alone(store: Store) -> None:
    vault = store.vault
    vault.grow("ANNA", grown(ready=True))
    vault.grow("BRUNO", grown(ready=False))
    vault.enrol("CARLA", replace(made(7), model=NEXT))
    with claimed(vault, "ANNA", COMING_OVER) as voice:
        assert voice is not None
        assert voice.grown is not None
        assert (voice.model, voice.grown.model, voice.grows) == (MODEL, NEXT, False)
        assert np.allclose(voice.vector, made(0).vector, atol=1e-6)
        assert np.allclose(voice.grown.vector, grown(ready=True).template().vector, atol=1e-6)
        kept = voice, voice.grown
    assert not any(one.vector.any() for one in kept), "both are overwritten"
    with claimed(vault, "BRUNO", COMING_OVER) as voice:
        assert voice is not None
        assert (voice.model, voice.grown, voice.grows) == (MODEL, None, True)
    with claimed(vault, "CARLA", COMING_OVER) as voice:
        assert voice is not None
        assert (voice.model, voice.grown, voice.grows) == (NEXT, None, False)
    with claimed(vault, "ANNA", ALONE) as voice:
        assert voice is not None
        assert (voice.model, voice.grown, voice.grows) == (MODEL, None, False), (
            "a bundle taken back recalls nobody"
        )


@pytest.mark.parametrize("uid", ["ANNA", "BRUNO"])
def test_once_the_older_model_is_gone_who_has_only_what_grew_has_to_enrol(store: Store, uid: str) -> None:
    store.vault.grow(uid, grown(ready=uid == "ANNA"))
    with claimed(store.vault, uid, SINCE) as voice:
        assert voice is None
    with gallery(store.vault, RULES, "door-1", SINCE) as people:
        assert len(people) == 0
    store.vault.enrol(uid, replace(made(7), model=NEXT))
    with claimed(store.vault, uid, SINCE) as voice:
        assert voice is not None


def test_where_nobody_is_claimed_each_is_searched_by_the_model_they_enrolled_with(store: Store) -> None:
    store.vault.grow("ANNA", grown(ready=True))
    store.vault.enrol("CARLA", replace(made(7), model=NEXT))
    with gallery(store.vault, RULES, "door-1", COMING_OVER) as people:
        assert isinstance(people, Galleries)
        assert len(people) == 3
        by_newer = people.identify({MODEL: (made(8).vector, llr), NEXT: (made(7).vector, llr)})
        by_older = people.identify({MODEL: (made(0).vector, llr), NEXT: (made(8).vector, llr)})
        assert by_newer is not None
        assert by_older is not None
        assert (by_newer.uid, by_newer.among) == ("CARLA", 3)
        assert (by_older.uid, by_older.among) == ("ANNA", 3)
        assert by_older.runner_up_llr < 0.5 < by_older.llr
        stranger = grown(ready=True).template().vector
        at_anna = people.identify({MODEL: (made(8).vector, llr), NEXT: (stranger, llr)})
        assert at_anna is not None
        assert at_anna.llr < 0.9, "what has grown for her is not searched"


class Model:
    def __init__(self, version: str) -> None:
        self.version = version

    def llr(self, one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other)


class TwoModels:
    older, newer = Model(MODEL), Model(NEXT)


def test_two_people_are_one_voice_when_either_model_finds_them_so(store: Store) -> None:
    vault, judge = store.vault, cast(Judge, TwoModels())
    assert alike(vault, judge, "ANNA", "BRUNO") < 0.5
    for uid in ("ANNA", "BRUNO"):
        vault.grow(uid, grown(ready=True))
    assert alike(vault, judge, "ANNA", "BRUNO") == pytest.approx(1.0, abs=1e-5)
    vault.enrol("CARLA", replace(made(7), model="another@1"))
    assert np.isnan(alike(vault, judge, "ANNA", "CARLA"))
