"""Which files a model may hear and which judge it: apart by page, system family, corpus and voice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from quantize.train.speech import corpus


@dataclass(frozen=True, slots=True)
class Fold:
    """What is held out: whole pages (both classes), families wherever they appear, and a bona fide corpus."""

    name: str
    pages: frozenset[str]
    made: frozenset[str]
    corpus: str


FOLDS = (
    Fold(
        "A",
        pages=frozenset({"styletts2_demo", "freevc_demo"}),
        made=frozenset({"piper", "diphone-and-hts", "world", "stretched"}),
        corpus="so762",
    ),
    Fold(
        "B",
        pages=frozenset({"hierspeech_demo", "dddmvc_demo", "tortoise", "speecht5"}),
        made=frozenset({"espeak", "kokoro", "griffinlim", "lpc", "codec2"}),
        corpus="libri",
    ),
)


JUDGED_EACH = 60
"""Files of a synthesiser made here that judge a fold: enough, and soon scored. Of people, all do."""


def held_out(fold: Fold, items):
    """The items this fold is judged on. Nobody hears copies of its held-out corpus by other vocoders."""
    away = [i for i in items if i.page in fold.pages or i.page == fold.corpus]
    for group in sorted(fold.made):
        members = [i for i in items if i.page == "made" and i.family == group]
        away += sorted(members, key=lambda i: hashlib.sha256(i.path.encode()).digest())[:JUDGED_EACH]
    return away


def _barred(fold: Fold, items):
    """Whether an item belongs to what this fold keeps apart, under any name."""
    families = {i.family for i in items if i.spoof and i.page in fold.pages} | fold.made
    pages = fold.pages | {fold.corpus}
    return lambda i: (
        i.page in pages or (i.spoof and i.family in families) or (i.page == "made" and i.voice in pages)
    )


def training(fold: Fold | None, items):
    """What a fold's model may hear; for None, the shipped model: everything but the calibration part."""
    allowed = corpus.training(items)
    if fold is None:
        return allowed
    barred = _barred(fold, items)
    return [i for i in allowed if not barred(i)]


def calibration(fold: Fold | None, items):
    """Speakers, voices and files of what a fold may hear that were kept out of its training."""
    kept = corpus.calibration(items)
    if fold is None:
        return kept
    barred = _barred(fold, items)
    return [i for i in kept if not barred(i)]


def judging(items):
    """Every file that judges a fold or calibrates a model, once, by path."""
    wanted = {i.path: i for fold in FOLDS for i in held_out(fold, items)}
    wanted |= {i.path: i for i in corpus.calibration(items)}
    return [wanted[path] for path in sorted(wanted)]
