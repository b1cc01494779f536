"""Voiceprints in the clear: for how long, whose, and that changes are seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.access.rules import default_rules, parse_rules
from device.access.voices import MAX_AGE_S, GalleryCache, gallery, voiceprint
from device.secure_store import Store, StoreSettings, open_store
from tests.device.secure_store.people import MODEL
from tests.device.secure_store.people import voiceprint as made

RULES = default_rules("door-1")


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
    with gallery(store.vault, rules, "door-1", MODEL) as voices:
        assert len(voices) == 1
        found = voices.identify(made(0).vector, llr)
        assert found is not None
        assert found.uid == "ANNA"
    assert not voices._matrix.any()


def test_a_cached_gallery_sees_who_was_enrolled_and_forgotten_and_new_rules(store: Store) -> None:
    cache = GalleryCache(store.vault, MODEL)
    assert who(cache, 1) == "BRUNO"
    first = cache.at("door-1", RULES, 1.0)
    assert cache.at("door-1", RULES, 2.0) is first
    store.vault.forget("BRUNO")
    assert who(cache, 1) == ""
    assert not first._matrix.any()
    store.vault.enrol("DORA", made(9))
    assert who(cache, 9) == "DORA"
    nobody = replace(RULES, version=5, admit_unlisted=False)
    assert len(cache.at("door-1", nobody, 3.0)) == 0
    cache.close()


def test_a_cached_gallery_is_opened_anew_after_an_hour_for_consents_run_out(store: Store) -> None:
    cache = GalleryCache(store.vault, MODEL)
    first = cache.at("door-1", RULES, 0.0)
    assert cache.at("door-1", RULES, MAX_AGE_S) is first
    assert cache.at("door-1", RULES, MAX_AGE_S + 1.0) is not first
    cache.close()
