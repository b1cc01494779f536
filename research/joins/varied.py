"""Lets the door's network for joins go on learning from more, and more varied, examples; into a file.

    python -m research.joins.varied --data SPEECH --work WORK --out NETWORK.npz

Pieces of one to three words, cut with more or less around them, at falls of energy or where it is quiet,
faded in other shapes, over room tone that is made or repeated, in recordings played faster or slower; people
whose speech was compressed, gated or drawn out. Both classes go through the same rooms (decaying tails and
recorded ones), loudspeakers, voices, ward sounds, steady noises and codecs, so that only joins tell them
apart. `python -m research.joins.judged` says whether it helped (2026-12-01: not enough, ADR 79).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.liveness.joins import shipped_network
from quantize.evaluate.recordings.splicing import (
    BORDERS,
    ENERGY,
    Piece,
    Source,
    levelled,
    pieces,
    quietest,
    with_pauses,
)
from quantize.playback import CODECS, coded, rms
from research.joins.further import between, further, several
from research.joins.hearing import coloured, convolved, fill, handled, played
from research.joins.spliced import LONGEST_S, Corpus, Example, calibrates, example_of, more

STYLE_ODDS = {"digits": 0.25, "codes": 0.45, "words": 0.3}
"""Codes most often: of them most passed the network of 2026-11-30."""
MOST_PIECES = 7
CARRIER_S = (1.0, 1.8)
REAL_ROOMS = ("house_", "medium_room", "bright_hall")
TAIL_S = 1.2
TALKS = 240
"""Mixtures of people who talk, made once."""
TEMPO = (0.87, 1.15)
SEEDS = (*range(101, 131), *range(132, 151, 2))
TALKS_SEED, EACH = 100, 1_000
SEED, BATCH = 3, 32
"""One seed names so many examples."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How somebody pastes one answer."""

    before_s: float
    after_s: float
    to_quiet: bool
    """Each cut moves to the least level within 15 ms."""
    fade_s: float
    shape: int
    gap_s: tuple[float, float]
    tone: int
    """0 none: digital silence; 1 made, below everything; 2 made, in gaps; 3 a quiet moment over and over."""
    match: float
    """How much of a difference in level is taken away."""


class Varied:
    """Draws examples from a corpus."""

    def __init__(self, corpus: Corpus, wanted: Callable[[str], bool]) -> None:
        self.corpus = corpus
        self.names = [name for name in corpus.names if wanted(name)]
        self.machines = [path for path in corpus.machines if wanted(path)]
        self._parts: dict[tuple[str, str, str], list[Piece]] = {}
        self._waves: dict[str, Wave] = {}
        self.rooms = [
            self._wave(path)[: round(TAIL_S * SAMPLE_RATE_HZ)]
            for path in corpus.rooms
            if Path(path).name.startswith(REAL_ROOMS)
        ]
        dice = np.random.default_rng(TALKS_SEED)
        self.talks = [self._talk(dice) for _ in range(TALKS)]

    def example(self, dice: np.random.Generator) -> Example:
        """One draw, half of them pasted."""
        pasted = dice.random() < 0.5
        for _ in range(200):
            person, theirs = self._person(dice)
            made = self._pasted(person, theirs, dice) if pasted else self._whole(theirs, dice)
            if made is None:
                continue
            wave, joins, kind = made
            if kind == "person" and person not in self.corpus.people:
                kind = "machine"
            if dice.random() < 0.35:
                speed = float(dice.uniform(*TEMPO))
                wave = soxr.resample(wave, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ).astype(np.float32)
                joins = [at / speed for at in joins]
            wave = handled(wave, dice)
            wave, clock = self.heard(wave, dice)
            return example_of(wave, tuple(at / clock for at in joins), person, kind, dice)
        raise ValueError("nobody of these people can be pasted")

    def _person(self, dice) -> tuple[str, Sequence[Source]]:
        """A person; now and then a machine, of which one recording is all there is."""
        if self.machines and dice.random() < 0.1:
            path = self.machines[int(dice.integers(len(self.machines)))]
            return path, (Source(path, self._wave(path)),)
        person = self.names[int(dice.integers(len(self.names)))]
        return person, self.corpus.people[person]

    def _wave(self, path: str) -> Wave:
        if path not in self._waves:
            self._waves[path] = self.corpus.read(path)
        return self._waves[path]

    def _whole(self, theirs, dice):
        wave = theirs[int(dice.integers(len(theirs)))].wave
        what = dice.random()
        if what < 0.15:
            return with_pauses(wave, dice), [], "pauses"
        if what < 0.4:  # what editing does that is no join
            tone = quietest(wave, float(dice.uniform(0.1, 0.3)))
            edges = [fill(int(dice.integers(3)), tone, dice.uniform(0.05, 0.4), dice) for _ in range(2)]
            wave = np.concatenate([edges[0], wave, edges[1]])
        return wave, [], "person"

    def _pasted(self, person, theirs, dice):
        style = tuple(STYLE_ODDS)[int(dice.choice(len(STYLE_ODDS), p=list(STYLE_ODDS.values())))]
        cutting = BORDERS if dice.random() < 0.65 and any(one.words for one in theirs) else ENERGY
        key = (person, cutting, style)
        if key not in self._parts:
            self._parts[key] = pieces(theirs, cutting, style)
        parts = self._parts[key]
        if len(parts) < 3:
            return None
        count = int(dice.integers(2, MOST_PIECES + 1)) if dice.random() < 0.4 else {"codes": 4}.get(style, 5)
        chosen = _chosen(parts, count, dice)
        if style == "codes" and (before := _carrier(theirs, dice)) is not None:
            chosen = [before, *chosen]
        if len(chosen) < 2:
            return None
        wave, joins = _paste(theirs, chosen, _cut(dice), dice)
        return wave, joins, f"{cutting}:{style}"

    def heard(self, wave: Wave, dice: np.random.Generator) -> tuple[Wave, float]:
        """(`wave` at a door, by how much the player was fast)."""
        clock = 1.0
        what = dice.random()
        if what < 0.3:
            clock = float(dice.uniform(0.99, 1.01))
            wave = played(wave, dice)
            if dice.random() < 0.5:
                wave = soxr.resample(wave, SAMPLE_RATE_HZ * clock, SAMPLE_RATE_HZ).astype(np.float32)
            else:
                clock = 1.0
        if what < 0.65:
            wave = convolved(wave, self._room(dice))
        if dice.random() < 0.75:
            noise, (low, high) = self._beside(len(wave), dice)
            below = 10 ** (-dice.uniform(low, high) / 20)
            wave = wave + noise * np.float32(rms(wave) / max(rms(noise), 1e-9) * below)
        if dice.random() < 0.1:
            wave = wave.copy()
            knock = self._recorded(dice, round(dice.uniform(0.05, 0.3) * SAMPLE_RATE_HZ))
            at = int(dice.integers(max(1, len(wave) - len(knock))))
            place = wave[at : at + len(knock)]
            loud = rms(wave) / max(rms(knock), 1e-9) * dice.uniform(0.1, 1)
            place += knock[: len(place)] * np.float32(loud)
        wave = levelled(wave)
        if dice.random() < 0.1:
            wave = coded(wave, tuple(CODECS)[int(dice.integers(len(CODECS)))])
        return wave, clock

    def _room(self, dice) -> Wave:
        if dice.random() < 0.35 and self.rooms:
            return self.rooms[int(dice.integers(len(self.rooms)))]
        decay_s = float(dice.uniform(0.15, 1.0) if dice.random() < 0.6 else dice.uniform(0.6, 1.1))
        length = round(decay_s * SAMPLE_RATE_HZ)
        tail = dice.standard_normal(length, np.float32) * np.exp(
            np.linspace(0, -6.9, length, dtype=np.float32)
        )
        tail[: SAMPLE_RATE_HZ // 500] = 0.0
        tail *= np.float32(10 ** (-dice.uniform(-2, 12) / 20) / np.sqrt((tail**2).sum()))
        tail[0] = 1.0
        return tail

    def _beside(self, length, dice):
        """(a sound, how far below the speech it may lie in dB)."""
        what = dice.random()
        if what < 0.25:
            talk = self.talks[int(dice.integers(len(self.talks)))]
            return np.resize(np.roll(talk, int(dice.integers(len(talk)))), length), (6, 22)
        if what < 0.55:
            sounds = self.corpus.ward
            sound = self._wave(sounds[int(dice.integers(len(sounds)))])
            return np.resize(np.roll(sound, int(dice.integers(len(sound)))), length), (6, 22)
        if what < 0.75:
            return self._recorded(dice, length), (8, 35)
        return coloured(length, float(dice.uniform(0.0, 1.2)), dice), (10, 35)

    def _recorded(self, dice, length):
        sound = self.corpus.noises[int(dice.integers(len(self.corpus.noises)))]
        return np.resize(np.roll(sound, int(dice.integers(len(sound)))), length)

    def _talk(self, dice) -> Wave:
        """Two to five people in one room for LONGEST_S."""
        length = LONGEST_S * SAMPLE_RATE_HZ
        said = np.zeros(length, np.float32)
        for _ in range(int(dice.integers(2, 6))):
            theirs = self.corpus.people[self.names[int(dice.integers(len(self.names)))]]
            wave = theirs[int(dice.integers(len(theirs)))].wave
            wave = np.resize(np.roll(wave, int(dice.integers(len(wave)))), length)
            said += wave * np.float32(dice.uniform(0.5, 1.0) / max(rms(wave), 1e-6))
        return convolved(said, self._room(dice))[:length] if dice.random() < 0.8 else said


def _chosen(parts: Sequence[Piece], count: int, dice) -> list[Piece]:
    """Pieces, some of two or three words in one, none of which follows the one before as it was said."""
    found: list[Piece] = []
    runs = dice.random() < 0.35
    for _ in range(20 * count):
        at = int(dice.integers(len(parts)))
        piece = parts[at]
        if runs and dice.random() < 0.4:
            last = parts[min(len(parts) - 1, at + int(dice.integers(1, 3)))]
            if last.source == piece.source and piece.end_s < last.end_s < piece.start_s + 1.6:
                piece = replace(piece, end_s=last.end_s)
        if found:
            before = found[-1]
            apart = piece.start_s - before.end_s
            if before == piece or (before.source == piece.source and -0.05 < apart < 0.6):
                continue
        found.append(piece)
        if len(found) == count:
            return found
    return []


def _carrier(theirs: Sequence[Source], dice) -> Piece | None:
    """A stretch of several words in one."""
    for at in dice.permutation(len(theirs))[:4]:
        whole_s = len(theirs[at].wave) / SAMPLE_RATE_HZ
        if words := theirs[at].words:
            if len(words) < 3:
                continue
            first = int(dice.integers(len(words) - 2))
            last = min(len(words) - 1, first + int(dice.integers(2, 4)))
            return Piece(int(at), "", words[first][1], words[last][2])
        if whole_s > CARRIER_S[1] + 0.4:
            length_s = float(dice.uniform(*CARRIER_S))
            start_s = float(dice.uniform(0.1, whole_s - length_s - 0.1))
            return Piece(int(at), "", start_s, start_s + length_s)
    return None


def _cut(dice) -> Cut:
    careful = dice.random() < 0.6
    gap = dice.random()
    low_s, high_s = (0.0, 0.0) if gap < 0.5 else (float(dice.uniform(0.01, 0.2)), 0.0)
    if gap >= 0.5:
        high_s = low_s * (1.5 if gap < 0.75 else 4.0)
    tone = (1, 1, 1, 2, 2, 3, 3, 0) if careful else (0, 0, 0, 1, 2, 3)
    return Cut(
        float(dice.uniform(-0.02, 0.05)),
        float(dice.uniform(-0.02, 0.06)),
        bool(dice.random() < 0.4),
        float(dice.uniform(0.002, 0.05)) if careful else 0.0,
        int(dice.integers(3)),
        (low_s, min(high_s, 0.5)),
        int(tone[int(dice.integers(len(tone)))]),
        float(dice.uniform(0.6, 1.0)) if careful else float(dice.integers(2)) * 0.5,
    )


def _paste(sources: Sequence[Source], chosen: Sequence[Piece], how: Cut, dice) -> tuple[Wave, list[float]]:
    """(the answer, where its pieces meet in seconds)."""
    giver = sources[chosen[int(dice.integers(len(chosen)))].source].wave
    tone = quietest(giver, float(dice.uniform(0.1, 0.3)))
    cuts = [_lifted(sources[piece.source].wave, piece, how, dice) for piece in chosen]
    loud = [max(rms(one), 1e-6) for one in cuts]
    middle = float(np.median(loud))
    edge_s = float(dice.uniform(0.1, 0.4))
    filling = 2 if how.tone == 1 else how.tone  # what lies below everything comes at the end
    quiet = 0 if how.tone == 1 else 1
    wave = fill(filling * quiet, tone, edge_s, dice)
    joins: list[float] = []
    fade = round(how.fade_s * SAMPLE_RATE_HZ)
    for number, (cut, level) in enumerate(zip(cuts, loud, strict=True)):
        gain = min(4.0, max(0.25, (middle / level) ** how.match * 10 ** (dice.normal(0, 1.0) / 20)))
        cut = cut * np.float32(gain)
        over = min(fade, len(cut) // 3, len(wave) // 3)
        if over:
            ramp = _ramp(over, how.shape)
            cut[:over] *= ramp
            cut[-over:] *= ramp[::-1]
        gap = fill(filling * quiet, tone, dice.uniform(*how.gap_s) if how.gap_s[1] else 0.0, dice)
        if number and len(gap):
            joins.append((len(wave) + len(gap) / 2) / SAMPLE_RATE_HZ)
            wave = np.concatenate([wave, gap, cut])
        elif number:
            joins.append((len(wave) - over / 2) / SAMPLE_RATE_HZ)
            both = wave[len(wave) - over :] + cut[:over]
            wave = np.concatenate([wave[: len(wave) - over], both, cut[over:]])
        else:
            wave = np.concatenate([wave, cut])
    wave = np.concatenate([wave, fill(filling * quiet, tone, edge_s, dice)])
    if how.tone == 1:
        wave = wave + fill(2, tone, len(wave) / SAMPLE_RATE_HZ, dice)[: len(wave)] * np.float32(
            10 ** (dice.uniform(-3, 6) / 20)
        )
    return wave, joins


def _lifted(wave: Wave, piece: Piece, how: Cut, dice) -> Wave:
    start = round((piece.start_s - how.before_s - dice.uniform(0, 0.01)) * SAMPLE_RATE_HZ)
    end = round((piece.end_s + how.after_s + dice.uniform(0, 0.01)) * SAMPLE_RATE_HZ)
    start = max(0, min(start, len(wave) - 1_600))
    end = min(len(wave), max(end, start + 1_600))
    if how.to_quiet:
        start, end = _quiet(wave, start), _quiet(wave, end)
    return wave[start : max(end, start + 800)].astype(np.float32)


def _quiet(wave: Wave, at: int) -> int:
    first = max(0, at - 240)
    power = np.convolve(wave[first : at + 240] ** 2, np.full(32, 1 / 32, np.float32), "valid")
    return first + int(np.argmin(power)) + 16 if len(power) else at


def _ramp(length: int, shape: int) -> Wave:
    line = np.linspace(0, 1, length, dtype=np.float32)
    return line if shape == 0 else np.sin(line * np.pi / 2) if shape == 1 else np.sin(line * np.pi / 2) ** 2


def varied(data: Path, work: Path, wanted: Callable[[str], bool], each: int = EACH) -> list[Example]:
    """`each` examples of the people wanted, for every one of SEEDS."""
    maker = Varied(Corpus(data, work), wanted)
    found = []
    for seed in SEEDS:
        dice = np.random.default_rng(seed)
        found += [maker.example(dice) for _ in range(each)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.joins.varied",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="word borders are kept here")
    parser.add_argument("--each", type=int, default=EACH, help="examples of each seed")
    parser.add_argument("--share", type=float, default=1.0, help="of the new; the rest is as it was before")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    others = varied(args.data, args.work, trains, args.each)
    same = more(args.data, args.work, trains)
    base = shipped_network().members[0]
    network = between(base, further(base, [*others, *same, *same], 1.0, SEED, BATCH), args.share)
    args.out.write_bytes(several([network]))


def trains(person: str) -> bool:
    return not calibrates(person)


if __name__ == "__main__":
    main()
