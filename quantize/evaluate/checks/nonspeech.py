"""Clips in which nobody says the phrase: noise, babble, music, tones, silence. None may be accepted.

Made while the evaluation runs, from the manifest's noises and voices and from nothing, in a fixed order.
Every clip meets two fresh phrases as doors show them, five listed words and six digits. Most clips would be
stopped by the audio gate of the door before any model hears them, so two counts are made: of what the door
would let through, and of a share of all clips that the words check is given anyway.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from device.access.challenge import ChallengeSettings
from device.audio import AudioSettings, load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.errors import DeviceError
from device.evidence.vocabulary import DIGITS
from device.evidence.wordlists import challenge_words
from quantize.evaluate.checks.attempts import STEP_UP_MARGIN_LLR
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.checks.scoring import PhraseCheck
from quantize.evaluate.recordings.manifest import NOISE, Recording
from quantize.evaluate.recordings.sound import read_wave

Sound = npt.NDArray[np.floating[Any]]

SHORTEST_S, LONGEST_S = 1.5, 4.0
UNGATED_SHARE = 10
"""Of the clips that the gate stops, one in so many goes to the words check all the same."""
KINDS = ("noise", "babble", "music", "tones", "bursts", "hiss", "silence")
GATED, UNGATED = "as the door hears it", "without the gate"
ASKED_AGAIN = "asked for one more"
"""Within the margin below the threshold: without such clips no second phrase can be accepted either."""


def clips(recordings: Sequence[Recording], root: Path, count: int) -> Iterator[tuple[str, Wave]]:
    """`count` clips, the kinds in turn; those that need recordings fall back to hiss when there are none.

    Babble is made of voices whose texts are unknown, and so are no phrase of the manifest.
    """
    dice = np.random.default_rng(3)
    noises = [r for r in recordings if r.label == NOISE]
    voices = [r for r in recordings if r.label == "bonafide" and not r.text]
    kept: dict[str, Wave] = {}

    def read(recording: Recording) -> Wave:
        if recording.path not in kept:
            kept[recording.path] = read_wave(root / recording.path)
        return kept[recording.path]

    for at in range(count):
        kind = KINDS[at % len(KINDS)]
        clip: Sound
        length = int(dice.uniform(SHORTEST_S, LONGEST_S) * SAMPLE_RATE_HZ)
        if kind == "noise" and noises:
            clip = _cut(read(noises[dice.integers(len(noises))]), length, dice)
        elif kind == "babble" and len(voices) >= 6:
            chosen = dice.choice(len(voices), int(dice.integers(3, 7)), replace=False)
            clip = _sum([_cut(read(voices[one]), length, dice) for one in chosen])
        else:
            clip = _made(kind, length, dice)
        peak = float(np.abs(clip).max())
        if peak > 0:
            clip = clip * (10 ** dice.uniform(-1.7, -0.1) / peak)
        yield kind, clip.astype(np.float32)


def judge_clips(
    check: PhraseCheck, made: Iterator[tuple[str, Wave]], threshold_llr: float, progress: Callable[[], None]
) -> dict[str, Rate]:
    """How many were accepted with and without the gate, by kind and together."""
    dice = np.random.default_rng(7)
    verdicts: dict[str, list[bool]] = {}
    for at, (kind, clip) in enumerate(made):
        asked = _challenge(dice)
        heard = _through_gate(clip)
        best = {GATED: -math.inf if heard is None else _best_llr(check, heard, asked)}
        if heard is not None or at // len(KINDS) % UNGATED_SHARE == 0:
            best[UNGATED] = _best_llr(check, clip, asked)
        for where, llr in best.items():
            passed = llr >= threshold_llr
            for name in (where, f"{where}, {kind}"):
                verdicts.setdefault(name, []).append(passed)
            weak = not passed and llr >= threshold_llr - STEP_UP_MARGIN_LLR
            verdicts.setdefault(f"{where}, {ASKED_AGAIN}", []).append(weak)
        progress()
    return {
        name: rate(range(len(found)), [[verdict] for verdict in found])
        for name, found in sorted(verdicts.items())
    }


def _challenge(dice: np.random.Generator) -> tuple[str, str]:
    """(words, digits) nearly as a door asks them; a door repeats a digit (`device/access/challenge.py`)."""
    settings, figures = ChallengeSettings(), tuple(word for word in DIGITS if word != "oh")
    digits = [int(dice.integers(10))]
    while len(digits) < settings.digits:  # no digit twice in a row
        digits.append((digits[-1] + int(dice.integers(1, 10))) % 10)
    words = dice.choice(challenge_words(), settings.words, replace=False)
    return " ".join(words), " ".join(figures[digit] for digit in digits)


def _best_llr(check: PhraseCheck, clip: Wave, phrases: Sequence[str]) -> float:
    try:
        return max(score.llr for score in check.scores(clip, phrases))
    except DeviceError:  # not usable, so the door stays locked
        return -math.inf


def _through_gate(clip: Wave) -> Wave | None:
    """What of the clip the door would judge; None when it would turn it away."""
    content = io.BytesIO()
    soundfile.write(content, clip, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    try:
        return load_utterance(content.getvalue(), AudioSettings()).wave()
    except DeviceError:
        return None


def _cut(wave: Wave, length: int, dice: np.random.Generator) -> Wave:
    wave = np.resize(wave, max(length, len(wave)))
    start = int(dice.integers(len(wave) - length + 1))
    return wave[start : start + length]


def _sum(sounds: Sequence[Sound]) -> Sound:
    return np.asarray(np.sum(sounds, axis=0))


def _made(kind: str, length: int, dice: np.random.Generator) -> Sound:
    """A sound out of nothing."""
    time_s = np.arange(length) / SAMPLE_RATE_HZ
    if kind == "silence":
        return np.zeros(length)
    if kind == "tones":
        pitches = dice.uniform(50, 4000, int(dice.integers(1, 4)))
        return _sum([np.sin(2 * np.pi * pitch * time_s) for pitch in pitches])
    if kind == "music":  # a melody of plucked strings on a chord
        sound = np.zeros(length)
        for start in range(0, length, int(dice.uniform(0.12, 0.4) * SAMPLE_RATE_HZ)):
            pitch = 110 * 2 ** (dice.choice([0, 3, 5, 7, 10, 12, 15, 19, 24]) / 12)
            ring = time_s[: length - start]
            overtones = [np.sin(2 * np.pi * pitch * n * ring) / n for n in range(1, 7)]
            sound[start:] += _sum(overtones) * np.exp(-5 * ring)
        return sound
    noise = dice.normal(0.0, 1.0, length)
    if kind == "bursts":  # knocks and steps: noise that rises and falls as often as syllables do
        loud = np.maximum(0.0, np.sin(2 * np.pi * dice.uniform(2, 6) * time_s + dice.uniform(0, 6))) ** 4
        return np.asarray(np.convolve(noise, np.hanning(int(dice.integers(4, 40))), "same") * loud)
    return noise
