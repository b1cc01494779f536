"""Cut and paste: an answer put together from pieces of a person's ordinary recordings. Pure; NumPy alone.

What an attacker does who has recordings and an editor, from the lazy (cut at pauses, joined hard) to the
careful (cut at word borders, faded into each other, levels matched, one room's tone below everything).
`draw` follows its dice and nothing else, so a seed names a splice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.evidence.vocabulary import DIGITS
from quantize.playback import CODECS, coded, pink, random_playback, rms

ENERGY, BORDERS, FADED, HIDDEN, PLAYED = "energy", "borders", "faded", "hidden", "played"
CODED = "coded"
WAYS = (ENERGY, BORDERS, FADED, HIDDEN, PLAYED, CODED)
"""Cut at falls of energy and joined hard; cut at word borders and joined hard; at word borders, faded, levels
matched, over room tone; the same under steady noise; any of the first three through a loudspeaker into a
room, or through MP3, Vorbis or Opus, as a file that was sent on."""
STYLES = ("digits", "codes", "words")
PIECES = {"digits": 6, "codes": 4, "words": 5}
"""Of a code these are its characters; the sentence before them is one piece more, cut in one."""
SHORTEST_S, LONGEST_S = 0.12, 0.9
CARRIER_WORDS = 3
LEVEL_RMS = 0.06

Bounds = tuple[str, float, float]
"""A word, and where it begins and ends in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One recording of a person, in [-1, 1) at 16 kHz, with its words where somebody found them."""

    path: str
    wave: Wave
    words: tuple[Bounds, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a source that is pasted."""

    source: int
    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Splice:
    """What comes out, and where its joins are."""

    wave: Wave
    joins_s: tuple[float, ...]
    way: str
    style: str
    paths: tuple[str, ...] = field(default=())
    twice: bool = False
    """Some piece was pasted more than once: for a word asked twice there was one recording."""
    edges_s: tuple[float, ...] = ()
    """Where room tone that was pasted before and after the speech meets it: edits, but beside the words."""


def cut_by_energy(wave: Wave) -> list[tuple[float, float]]:
    """(start, end) in seconds of what lies between falls of energy, SHORTEST_S to LONGEST_S long.

    A fall is a local minimum of the level over 50 ms that lies 6 dB below the peaks on both of its sides.
    """
    hop, window = 80, 400
    if len(wave) < 4 * window:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    level_db = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    level_db = np.convolve(np.pad(level_db, 4, mode="edge"), np.full(9, 1 / 9), "valid")
    loud_db = np.percentile(level_db, 95) - 25
    window_over = np.lib.stride_tricks.sliding_window_view
    ahead_db = window_over(np.pad(level_db, (0, 59), constant_values=-np.inf), 60).max(axis=1)
    low = window_over(np.pad(level_db, 6, constant_values=np.inf), 13).min(axis=1) >= level_db
    minima = [0]
    for at in np.flatnonzero(low & (ahead_db - level_db > 6)).tolist():
        since_db = level_db[minima[-1] : at + 1].max()
        if 0 < at < len(level_db) - 1 and since_db - level_db[at] > 6:
            minima.append(at)
    minima.append(len(level_db) - 1)
    found = []
    for first, last in pairwise(minima):
        inside = np.flatnonzero(level_db[first : last + 1] > loud_db) + first
        if len(inside) == 0:
            continue
        start_s = int(inside[0]) * hop / SAMPLE_RATE_HZ
        end_s = (int(inside[-1]) * hop + window) / SAMPLE_RATE_HZ
        if SHORTEST_S <= end_s - start_s <= LONGEST_S:
            found.append((start_s, min(end_s, len(wave) / SAMPLE_RATE_HZ)))
    return found


def pieces(sources: Sequence[Source], way: str, style: str) -> list[Piece]:
    """Everything that may be pasted for `style`; at energy's falls nobody knows which word it is."""
    found = []
    for at, source in enumerate(sources):
        if way == ENERGY:
            found += [Piece(at, "", start, end) for start, end in cut_by_energy(source.wave)]
        else:
            found += [
                Piece(at, word, start, end)
                for word, start, end in source.words
                if SHORTEST_S <= end - start <= LONGEST_S and _fits(word, style)
            ]
    return found


def _fits(word: str, style: str) -> bool:
    figure, letter = word in DIGITS, len(word.strip(".")) == 1
    return {"digits": figure, "codes": figure or letter, "words": not figure and not letter}[style]


def draw(sources: Sequence[Source], way: str, style: str, dice: np.random.Generator) -> Splice | None:
    """One splice from recordings of one person; None where they do not have what it takes."""
    cutting = way
    if way in (HIDDEN, PLAYED, CODED):
        cutting = FADED if way == HIDDEN else (ENERGY, BORDERS, FADED)[int(dice.integers(3))]
    if style not in STYLES or way not in WAYS:
        raise ValueError(f"no {way} splice of {style}")
    parts = pieces(sources, cutting, style)
    chosen = _chosen(parts, PIECES[style], dice)
    if style == "codes":
        before = _carrier(sources, cutting, dice)
        chosen = [before, *chosen] if before and chosen else []
    if not chosen:
        return None
    wave, joins, edges = _pasted(sources, chosen, cutting, dice)
    if way == HIDDEN:
        wave = wave + pink(len(wave), dice) * np.float32(rms(wave) * 10 ** (-dice.uniform(18, 30) / 20))
    if way == PLAYED:
        playback = random_playback(dice)
        wave = playback(wave, dice)
        joins = [at / playback.clock for at in joins]
        edges = [at / playback.clock for at in edges]
    if way == CODED:
        wave = coded(levelled(wave), tuple(CODECS)[int(dice.integers(len(CODECS)))])
    paths = tuple(sources[piece.source].path for piece in chosen)
    twice = len(set(chosen)) < len(chosen)
    return Splice(levelled(wave), tuple(joins), way, style, paths, twice, tuple(edges))


def levelled(wave: Wave) -> Wave:
    """At LEVEL_RMS, or as near to it as fits without clipping."""
    gain = min(LEVEL_RMS / max(rms(wave), 1e-9), 0.95 / max(float(np.abs(wave).max()), 1e-9))
    return (wave * np.float32(gain)).astype(np.float32)


def _chosen(parts: Sequence[Piece], count: int, dice: np.random.Generator) -> list[Piece]:
    """Pieces in an order in which no two follow each other as they were said; none where they are too few."""
    if len(parts) < 3 or len({(p.source, p.start_s) for p in parts}) < 3:
        return []
    found: list[Piece] = []
    for _ in range(20 * count):
        piece = parts[int(dice.integers(len(parts)))]
        before = found[-1] if found else None
        if before and before.source == piece.source and -0.05 < piece.start_s - before.end_s < 0.6:
            continue
        if before is not None and before == piece:
            continue
        found.append(piece)
        if len(found) == count:
            return found
    return []


def _carrier(sources: Sequence[Source], cutting: str, dice: np.random.Generator) -> Piece | None:
    """A stretch of several words in one: what does not change from challenge to challenge."""
    for at in dice.permutation(len(sources)):
        words = sources[at].words
        if cutting == ENERGY or len(words) < CARRIER_WORDS + 1:
            whole_s = len(sources[at].wave) / SAMPLE_RATE_HZ
            if cutting == ENERGY and whole_s > 1.8:
                start_s = float(dice.uniform(0.1, whole_s - 1.6))
                return Piece(int(at), "", start_s, start_s + float(dice.uniform(1.0, 1.5)))
            continue
        first = int(dice.integers(len(words) - CARRIER_WORDS))
        return Piece(int(at), "", words[first][1], words[first + CARRIER_WORDS - 1][2])
    return None


def _pasted(
    sources: Sequence[Source], chosen: Sequence[Piece], cutting: str, dice: np.random.Generator
) -> tuple[Wave, list[float], list[float]]:
    """The pieces one after the other: (wave, where they join, where they meet what is before and after)."""
    careful = cutting == FADED
    fade = round((dice.uniform(0.005, 0.03) if careful else 0.0) * SAMPLE_RATE_HZ)
    gap_s = 0.0 if dice.random() < 0.4 else float(dice.uniform(0.02, 0.25))
    tone = _tone(sources, chosen, dice) if careful or dice.random() < 0.3 else None
    edge = round(dice.uniform(0.1, 0.4) * SAMPLE_RATE_HZ)
    before, after = (quietest(sources[piece.source].wave) for piece in (chosen[0], chosen[-1]))
    wave = looped(before, edge, dice) if tone is None else np.zeros(edge, np.float32)
    joins: list[float] = []
    for number, piece in enumerate(chosen):
        source = sources[piece.source].wave
        slack = round(dice.uniform(0.0, 0.02) * SAMPLE_RATE_HZ)
        first = max(0, round(piece.start_s * SAMPLE_RATE_HZ) - slack)
        cut = source[first : round(piece.end_s * SAMPLE_RATE_HZ) + slack].astype(np.float32)
        if careful:
            cut = cut * np.float32(min(4.0, max(0.25, LEVEL_RMS / max(_loud(cut), 1e-6))))
            ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) if fade else None
            if ramp is not None and len(cut) > 2 * fade:
                cut = cut.copy()
                cut[:fade] *= ramp
                cut[-fade:] *= ramp[::-1]
        gap = round(gap_s * dice.uniform(0.6, 1.4) * SAMPLE_RATE_HZ) if number else 0
        if number:
            joins.append((len(wave) + gap / 2) / SAMPLE_RATE_HZ)
        if gap or not careful or not number or len(wave) < fade:
            wave = np.concatenate([wave, np.zeros(gap, np.float32), cut])
        else:  # into each other
            wave = np.concatenate([wave[:-fade], wave[-fade:] + cut[:fade], cut[fade:]])
    edges = [edge / SAMPLE_RATE_HZ, len(wave) / SAMPLE_RATE_HZ]
    wave = np.concatenate([wave, looped(after, edge, dice) if tone is None else np.zeros(edge, np.float32)])
    if tone is not None:
        wave = wave + looped(tone, len(wave), dice)
    return wave, joins, edges


def _loud(wave: Wave) -> float:
    """The level of the louder half, so that a long ending does not count."""
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    power = np.sort((frames**2).mean(axis=1)) if len(frames) else np.zeros(1)
    return float(np.sqrt(power[len(power) // 2 :].mean()))


def _tone(sources: Sequence[Source], chosen: Sequence[Piece], dice: np.random.Generator) -> Wave:
    """The quietest 150 ms of one of the recordings used."""
    return quietest(sources[chosen[int(dice.integers(len(chosen)))].source].wave)


def quietest(wave: Wave, seconds: float = 0.15) -> Wave:
    """The stretch of least energy of that length."""
    length = round(seconds * SAMPLE_RATE_HZ)
    if len(wave) <= length:
        return wave
    total = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    starts = np.arange(0, len(wave) - length, 160)
    at = int(starts[np.argmin(total[starts + length] - total[starts])])
    return wave[at : at + length]


def looped(tone: Wave, length: int, dice: np.random.Generator) -> Wave:
    """Noise (length,) with the spectrum of `tone`: what an editor's room-tone tool makes."""
    size = 1 << max(10, (len(tone) - 1).bit_length())
    shape = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), size))
    shape = np.sqrt(np.convolve(np.pad(shape**2, 4, mode="edge"), np.full(9, 1 / 9), "valid"))
    spectrum = np.fft.rfft(dice.standard_normal(length))
    axis = np.linspace(0, 1, len(spectrum))
    noise = np.fft.irfft(spectrum * np.interp(axis, np.linspace(0, 1, len(shape)), shape), length)
    made: Wave = (noise * (rms(tone) / max(rms(noise.astype(np.float32)), 1e-12))).astype(np.float32)
    return made


def with_pauses(wave: Wave, dice: np.random.Generator) -> Wave:
    """The same person hesitating: quiet moments drawn out by their own room's tone. No word is touched."""
    gaps = cut_by_energy(wave)
    middles = [(a[1] + b[0]) / 2 for a, b in pairwise(gaps)] or [0.0]
    tone = quietest(wave)
    for at_s in sorted(dice.choice(middles, min(2, len(middles)), replace=False), reverse=True):
        at, fade = round(float(at_s) * SAMPLE_RATE_HZ), 320
        pause = looped(tone, round(dice.uniform(0.3, 1.0) * SAMPLE_RATE_HZ) + 2 * fade, dice)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        before, after = wave[: at + fade].copy(), wave[max(0, at - fade) :].copy()
        if at < fade or len(before) < fade or len(after) < 2 * fade:
            continue
        before[-fade:] *= ramp[::-1]
        after[:fade] *= ramp
        pause[:fade] *= ramp
        pause[-fade:] *= ramp[::-1]
        middle = pause.copy()
        middle[:fade] += before[-fade:]
        middle[-fade:] += after[:fade]
        wave = np.concatenate([before[:-fade], middle, after[fade:]])
    return wave


def able_people(sources: Mapping[str, Sequence[Source]], way: str, style: str) -> list[str]:
    """Whose recordings have enough to be spliced that way, in order."""
    cutting = ENERGY if way == ENERGY else FADED
    return [
        person
        for person, theirs in sorted(sources.items())
        if len(pieces(theirs, cutting, style)) >= (3 if style == "digits" else 4)
    ]
