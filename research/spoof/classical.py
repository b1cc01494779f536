"""Known classical synthesis: does a detector that has heard the system refuse it from speakers it has not?

    python -m research.spoof classical --data SPEECH --attacks ATTACKS --work WORK

Everything is split in five: people and copies of them by speaker, espeak-ng by voice, flite and Festival,
which have few voices, once by text (of voices that are heard) and once by voice. What learns is trained five
times, each time without a fifth, and judged on that fifth as it is, under the released calibration.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.detector import SpoofCard
from quantize.evaluate.figures.intervals import Share
from quantize.train.fitting.envelopes import classical, fit_envelopes
from quantize.train.fitting.fit import FitSettings, fit
from quantize.train.fitting.norms import frame_rate_score
from quantize.train.judging.calibrate import against_any, certain
from quantize.train.speech import corpus
from quantize.train.speech.bank import Bank, Held
from quantize.train.speech.scoring import eer, render
from research.detector import splits
from research.detector.scores import interval

PARTS = 5
FEW_VOICES = frozenset(["festival", "flite"])
LEAST_SAMPLES = 2 * SAMPLE_RATE_HZ
"""Shorter utterances are not judged: a phrase takes longer."""
KINDS = ("envelopes", "synthesis")


def part(item, by_text: bool) -> int:
    """Which fifth an item belongs to."""
    spoken = item.path if by_text and item.system in FEW_VOICES else ""
    key = spoken or (item.voice if item.system in (*FEW_VOICES, "espeak") else item.speaker) or item.path
    return hashlib.sha256(key.encode()).digest()[1] % PARTS


def judged_items(items):
    """People for certain and classical attacks, of no research page's people, long enough to judge."""
    pages = {page for fold in splits.FOLDS for page in fold.pages}
    return [
        i
        for i in items
        if len(i.wave) >= LEAST_SAMPLES and (certain(i.page) or (classical(i) and i.voice not in pages))
    ]


def scores(items, judged, bank: Bank, plain: Held, card: SpoofCard, settings: FitSettings, by_text: bool):
    """LLRs of `judged` by models that did not hear their fifth: (n, 2), of the envelopes and the networks."""
    found = np.zeros((len(judged), 2))
    for number in range(PARTS):
        heard = [i for i in items if part(i, by_text) != number]
        own = [n for n, i in enumerate(judged) if part(i, by_text) == number]
        asked = [judged[n] for n in own]
        head, texture = fit_envelopes(heard, bank, settings), fit(heard, bank, settings)
        with torch.inference_mode():
            logits = texture(torch.from_numpy(plain.pooled(asked))).numpy()[:, 0]
        moves = [head.score(one) for one in plain.envelopes(asked)]
        for n, logit, moved in zip(own, logits, moves, strict=True):
            found[n] = card.envelopes.llr(moved), card.synthetic.llr(-float(logit))
    return found


def table(judged, by_text, by_voice) -> Table:
    """One row for each system, `by_text` and `by_voice` holding (n, KINDS) scores of `judged`."""
    shown = Table(
        "known system", "not heard", "files", *(f"EER, {kind}" for kind in KINDS), "accepted at LLR 0"
    )
    person = np.array([not i.spoof for i in judged])
    shown.title = f"classical synthesis against {person.sum()} people, clean"
    systems = sorted({i.system for i in judged if i.spoof})
    rows = [
        (s, "text" if s in FEW_VOICES else "voice" if s == "espeak" else "speaker", by_text) for s in systems
    ]
    rows += [(s, "voice", by_voice) for s in systems if s in FEW_VOICES]
    for system, unheard, found in rows:
        known = [unheard == "voice" or i.voice not in corpus.HELD_VOICES for i in judged]
        made = np.array([i.system == system for i in judged]) & np.array(known)
        cells = []
        for kind in range(len(KINDS)):
            low, high = interval(found[person, kind], found[made, kind])
            cells.append(f"{eer(found[person, kind], found[made, kind]):.1%} ({low:.1%} - {high:.1%})")
        shown.add_row(
            system, unheard, str(made.sum()), *cells, str(Share((found[made, 1] > 0).sum(), made.sum()))
        )
    refused = Share(int((by_text[person, 1] <= 0).sum()), int(person.sum()))
    shown.caption = f"people refused by the evidence for synthesis at LLR 0: {refused}"
    return shown


def voices_table(judged, by_voice) -> Table:
    """Of flite and Festival each voice, when no model had heard it: how many of its files are accepted."""
    shown = Table("voice not heard", "files", "accepted at LLR 0")
    for system in sorted(FEW_VOICES):
        for voice in sorted({i.voice for i in judged if i.system == system}):
            passed = [
                by_voice[n, 1] > 0 for n, i in enumerate(judged) if (i.system, i.voice) == (system, voice)
            ]
            shown.add_row(f"{system} {voice}", str(len(passed)), str(Share(sum(passed), len(passed))))
    return shown


def run(data: Path, attacks: Path, work: Path, card_path: Path) -> None:
    items = corpus.load(data, attacks, work)
    judged, card = judged_items(items), SpoofCard.from_bytes(card_path.read_bytes())
    bank, plain = Bank.load(work), Held.load(work, "plain")
    beat = np.array(
        [
            card.frame_rate.llr(frame_rate_score(card.norms, render(i, "plain", (), ())))
            for i in track(judged, description="frame rates")
        ]
    )
    both = []
    for by_text in (True, False):
        found = scores(items, judged, bank, plain, card, FitSettings(), by_text)
        both.append(np.stack([found[:, 0], against_any(found[:, 1], found[:, 0], beat)], axis=1))
    Console(width=130).print(table(judged, *both), voices_table(judged, both[1]))
