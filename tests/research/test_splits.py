"""What is held out stays out: by page, by system under any of its names, by corpus and by voice."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("numpy")
pytest.importorskip("rich")

import numpy as np

from quantize.train.speech.corpus import FAMILIES, HELD_VOICES, Item, family
from research.detector.splits import FOLDS, Fold, calibration, held_out, training

PAGES = ("hierspeech_demo", "styletts2_demo", "freevc_demo", "dddmvc_demo", "tortoise", "speecht5")
CORPORA = ("an4", "so762", "libri")
SYSTEMS = sorted({*FAMILIES, "hierspeech", "tortoise", "speecht5", "dddmvc"})
MADE = ("espeak", "flite", "festival", "piper", "kokoro", "world", "griffinlim", "lpc", "timescale", "codec2")


def item(page: str, system: str, number: int, voice: str = "") -> Item:
    wave = np.zeros(16_000, np.int16)
    spoof = system != "-"
    return Item(f"{page}/{system}/{voice}{number}", spoof, system, page, f"s{number}", voice, wave, wave)


def everything() -> list[Item]:
    found = [item(p, s, n) for p, s, n in itertools.product(PAGES, (*SYSTEMS, "-"), range(20))]
    found += [item(c, "-", n) for c, n in itertools.product(CORPORA, range(60))]
    found += [
        item("made", s, n, v)
        for s, n, v in itertools.product(MADE, range(20), (*CORPORA, *PAGES, *HELD_VOICES))
    ]
    return found


@pytest.mark.parametrize("fold", FOLDS, ids=lambda fold: fold.name)
def test_a_fold_never_hears_its_pages_its_corpus_or_a_system_it_is_judged_on(fold: Fold) -> None:
    items = everything()
    heard, judged = training(fold, items), held_out(fold, items)
    assert not {i.path for i in heard} & {i.path for i in judged}
    assert not {i.page for i in heard} & {*fold.pages, fold.corpus}
    assert not {i.family for i in heard if i.spoof} & {i.family for i in judged if i.spoof}


@pytest.mark.parametrize("fold", FOLDS, ids=lambda fold: fold.name)
def test_copies_of_held_out_people_are_not_heard_either(fold: Fold) -> None:
    away = {*fold.pages, fold.corpus}
    assert not [i for i in training(fold, everything()) if i.page == "made" and i.voice in away]


@pytest.mark.parametrize("fold", [*FOLDS, None], ids=lambda fold: fold.name if fold else "shipped")
def test_what_calibrates_was_not_trained_on(fold: Fold | None) -> None:
    items = everything()
    heard, kept = {i.path for i in training(fold, items)}, {i.path for i in calibration(fold, items)}
    assert kept
    assert not heard & kept


def test_a_speaker_is_on_one_side_only() -> None:
    items = [item("libri", "-", n % 30) for n in range(300)]
    parts: dict[str, set[str]] = {}
    for one in items:
        parts.setdefault(one.speaker, set()).add(one.part)
    assert {len(found) for found in parts.values()} == {1}


def test_every_page_and_every_made_system_is_held_out_once() -> None:
    held = [page for fold in FOLDS for page in fold.pages]
    assert sorted(held) == sorted(PAGES)
    made = [name for fold in FOLDS for name in fold.made]
    assert sorted(made) == sorted({family(system) for system in MADE})
