"""Edits of a recording: a piece taken out, put in or exchanged, as a forger would. Pure; NumPy alone.

The pieces are the person's own, from the same recording or from another one; some come from another room,
device or codec. `edit` follows its dice and nothing else, so a seed names an edit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.evaluate.recordings.splicing import Source, Splice, cut_by_energy, levelled
from quantize.playback import CODECS, Loudspeaker, Room, coded, microphone, pink, play, reverberate, rms

DELETED, INSERTED, REPLACED = "deleted", "inserted", "replaced"
ROOM, DEVICE, CODEC = "of another room", "of another device", "of another codec"
EDITS = (DELETED, INSERTED, REPLACED, ROOM, DEVICE, CODEC)
"""Words taken out; words from elsewhere put in, or in place of others; the same from another room, through
another device, through a codec. Elsewhere is another recording of the same person, or where there is none,
another place in this one."""
HARD, CAREFUL = "hard", "careful"
LEAST_PARTS = 4
MOST_PARTS = 3
SHORTEST_S, LONGEST_S = 0.15, 1.5
AWAY_S = 0.5
"""So far from an edit lies what comes from the same recording."""

Span = tuple[int, int]


def able(sources: Sequence[Source]) -> bool:
    """Whether a person has a recording that is long enough to edit."""
    return any(len(_parts(one)) >= LEAST_PARTS for one in sources)


def edit(sources: Sequence[Source], kind: str, dice: np.random.Generator) -> Splice | None:
    """One edit of one of the recordings of a person; None where the dice fell on one that is too short.

    Half of the edits are hard cuts, half are moved to where the sound crosses zero, faded into each other and
    set to the level of what is beside them.
    """
    if kind not in EDITS:
        raise ValueError(f"no edit {kind}")
    if not sources:
        return None
    order = dice.permutation(len(sources))
    host, giver = sources[order[0]], sources[order[-1]]
    parts, theirs = _parts(host), _parts(giver)
    if len(parts) < LEAST_PARTS or not theirs:
        return None
    way = HARD if dice.random() < 0.5 else CAREFUL
    first, last = _inside(parts, dice)
    start, end = (parts[first][0], parts[last][0]) if kind == DELETED else (parts[first][0], parts[first][0])
    if kind == REPLACED or (kind not in (DELETED, INSERTED) and dice.random() < 0.5):
        end = parts[last - 1][1]
    slack = round(dice.uniform(0.0, 0.03) * SAMPLE_RATE_HZ)
    start, end = max(1, start - slack), max(2, end - slack)
    piece = np.zeros(0, np.float32)
    if kind != DELETED:
        edited = (start, end) if giver is host else None
        piece = _piece(giver, theirs, edited, slack, dice)
        if not len(piece):
            return None
        piece = _elsewhere(piece, kind, dice)
    if end <= start and not len(piece):
        return None
    wave = np.asarray(host.wave, np.float32)
    before, after = wave[:start], wave[max(start, end) :]
    made, joins = _joined([before, piece, after] if len(piece) else [before, after], way, dice)
    used = (host.path, giver.path) if len(piece) else (host.path,)
    return Splice(levelled(made), joins, way, kind, used)


def _parts(source: Source) -> list[Span]:
    """(first, last) sample of every word, or of what lies between falls of energy."""
    spans = [(start, end) for _, start, end in source.words] or cut_by_energy(source.wave)
    return [(round(a * SAMPLE_RATE_HZ), round(b * SAMPLE_RATE_HZ)) for a, b in spans]


def _inside(parts: Sequence[Span], dice: np.random.Generator) -> Span:
    """(first, one after the last) part of a stretch that neither begins nor ends the recording."""
    first = int(dice.integers(1, len(parts) - 2))
    return first, min(len(parts) - 1, first + int(dice.integers(1, MOST_PARTS + 1)))


def _piece(
    giver: Source, parts: Sequence[Span], edited: Span | None, slack: int, dice: np.random.Generator
) -> Wave:
    for _ in range(8):
        first = int(dice.integers(len(parts)))
        last = min(len(parts), first + int(dice.integers(1, MOST_PARTS + 1))) - 1
        start, end = max(0, parts[first][0] - slack), parts[last][1] + slack
        away = round(AWAY_S * SAMPLE_RATE_HZ)
        if edited is not None and start < edited[1] + away and end > edited[0] - away:
            continue
        if SHORTEST_S <= (end - start) / SAMPLE_RATE_HZ <= LONGEST_S:
            return np.asarray(giver.wave[start:end], np.float32)
    return np.zeros(0, np.float32)


def _elsewhere(piece: Wave, kind: str, dice: np.random.Generator) -> Wave:
    """`piece` as another room, device or codec gives it; itself for other edits."""
    length, level = len(piece), rms(piece)
    if kind == ROOM:
        room = Room(float(dice.uniform(0.2, 0.9)), float(dice.uniform(-2.0, 8.0)))
        piece = reverberate(piece, room, dice)[:length]
        piece = piece + pink(length, dice) * np.float32(level * 10 ** (-dice.uniform(20, 40) / 20))
    elif kind == DEVICE:
        wide = Loudspeaker(
            float(dice.uniform(60, 350)), float(dice.uniform(3_300, 7_900)), int(dice.integers(1, 5)), (), 0.1
        )
        piece = microphone(play(wide, piece), dice, 4.0)
        piece = piece + pink(length, dice) * np.float32(level * 10 ** (-dice.uniform(25, 50) / 20))
    elif kind == CODEC:
        piece = np.resize(coded(piece, tuple(CODECS)[int(dice.integers(len(CODECS)))]), length)
    return (piece * np.float32(level / max(rms(piece), 1e-9))).astype(np.float32)


def _joined(parts: list[Wave], way: str, dice: np.random.Generator) -> tuple[Wave, tuple[float, ...]]:
    """The parts one after the other, and where they meet in seconds."""
    fade = round(dice.uniform(0.004, 0.03) * SAMPLE_RATE_HZ) if way == CAREFUL else 0
    if way == CAREFUL and len(parts) == 3:
        loud = (rms(parts[0]) + rms(parts[2])) / 2
        parts[1] = parts[1] * np.float32(min(4.0, max(0.25, loud / max(rms(parts[1]), 1e-9))))
    wave, joins = parts[0], []
    for part in parts[1:]:
        if way == CAREFUL:
            wave, part = _to_zero(wave[::-1])[::-1], _to_zero(part)
        over = min(fade, len(wave) // 2, len(part) // 2)
        ramp = np.sin(np.linspace(0, np.pi / 2, over, dtype=np.float32)) ** 2
        both = wave[len(wave) - over :] * ramp[::-1] + part[:over] * ramp
        joins.append((len(wave) - over / 2) / SAMPLE_RATE_HZ)
        wave = np.concatenate([wave[: len(wave) - over], both, part[over:]])
    return wave, tuple(joins)


def _to_zero(wave: Wave) -> Wave:
    """`wave` from where it first crosses zero within 5 ms."""
    head = wave[: SAMPLE_RATE_HZ // 200]
    crosses = np.flatnonzero(np.diff(np.signbit(head)))
    return wave[int(crosses[0]) + 1 :] if len(crosses) else wave
