"""Measures how usable an utterance is, and refuses what must not be judged. Pure arithmetic.

A voice activity detector and energy alone let typewriters, fans and traffic through. Two measurements tell
speech from those: pitch (part of every utterance is voiced) and how far it stands above the quietest of its
surroundings.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from device.audio.errors import Flaw, QualityError
from device.audio.settings import QualityLimits
from device.audio.spectrum import rfft
from device.audio.spoiled import band, cliff, made_band
from device.audio.spoiled.disturbance import steady_lines
from device.audio.spoiled.lost_blocks import filled_on_a_grid
from device.audio.spoiled.pitch import pitch_strength
from device.audio.utterance import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Quality, Samples, Utterance

FULL_SCALE = 32768.0
FLOOR_DBFS = -100.0
"""Digital silence counts as this, so that levels stay finite."""
MAX_SNR_DB = 60.0
CLIPPED_LEVEL = 32_700
"""Converters and resamplers do not all clip at exactly full scale."""

PITCH_STRENGTH = 0.7
"""Normalised autocorrelation at the pitch lag: white noise stays below 0.6, vowels reach 0.9."""
MIN_PITCHED_FRACTION = 0.1
"""Of the speech frames. Clean speech has 0.2 to 0.8; paper, keys and distant chatter less than 0.1."""
MAX_PITCH_FRAMES = 120
"""Looked at, evenly spread: enough for a fraction, and bounded work on a slow processor."""

VOICED_STRENGTH = 0.8
MIN_WHISPER_S = 0.5
WHISPER_PITCHED, WHISPER_VOICED, WHISPER_LULL_DB = 0.3, 0.15, 18.0
"""Of 40 people shares of 0.32 and 0.24 at least, in a lively room of 95 in 100 0.28 and 0.21; with the voice
taken out of the same recordings 0.30 and 0.15 at most. The formants of a whisper ring, so it has some.
"""
WHISPER_MOVES_DB = 3.0
"""Standard deviation of levels: of steady hiss it is below 1."""

LULL_FRAMES, LULL_PERCENTILE = 5, 10.0
LULL_MOVES_DB = 1.5
"""A level that moves less than this is a steady sound and not several talkers."""

BANDWIDTH_RANGE_DB = 55.0
"""Below its strongest part, where the spectrum of speech is taken to end."""

DECAY_RANGE_HZ = (200.0, 4_000.0)
DECAY_FRAMES = 4
"""80 ms: a syllable's end."""
DECAY_FROM_DB = 10.0
"""Above the quietest tenth: what fades into noise tells nothing of the room."""
FASTEST_SHARE = 10.0
"""Per cent of all falls: the ends of words, not the dips within them."""

SILENT_LEVEL = 2
"""A lost block is zeros; dither leaves this much of it."""
MIN_GAP_SAMPLES = 48
BESIDE_GAP_SAMPLES = 160
EDGE_SAMPLES = 64
MIN_GAP_LEVEL = 100.0
MIN_GAPS = 3
LOST_BLOCKS_MS = (7.5, 8.0, 10.0, 10.667, 11.61, 16.0, 20.0, 21.333, 23.22, 32.0)
"""Radio frames, powers of two at 44.1 and 48 kHz, and what drivers use."""
GRID_SAMPLES = 5.0
ON_GRID = 0.75
"""Of the edges of gaps. Where a gap meets a pause its edge is not to be seen. None of 2,934 development
recordings is refused; with every tenth 20 ms zeroed, 189 of 194 are. Resampling hides the edges: the
microphone looks for gaps before it (`card/health.py`)."""

TALKERS_SNR_DB = 20.0
"""Beside talkers as loud as the speaker it is less (18.7 at most in 22 mixtures of development speech); a
file that was cut close to its words has few lulls, too, and stands higher."""

Flags = npt.NDArray[np.bool_]
"""One per frame: did the detector call it speech? Shape (len(samples) // FRAME_SAMPLES,)."""

_Frames = npt.NDArray[np.float32]


def measure(samples: Samples, speech: Flags) -> Quality:
    """Measure int16 samples of shape (n * FRAME_SAMPLES,), given which frames are speech."""
    frames = samples.reshape(-1, FRAME_SAMPLES)
    if len(frames) != len(speech):
        raise ValueError(f"{len(frames)} frames, but {len(speech)} flags")
    if not speech.any():
        return Quality(0.0, 0.0, 0.0, FLOOR_DBFS, 0.0)
    wave = (frames.astype(np.float32) - np.float32(samples.mean())) / np.float32(FULL_SCALE)
    level_db = _decibels(np.square(wave).mean(axis=1))
    speech_db = float(_decibels(np.mean(np.power(10.0, level_db[speech] / 10.0))))
    said_s = int(speech.sum()) * FRAME_MS / 1_000
    pitched, voiced = _pitched(wave, speech)
    lull_db = _lull_db(level_db) if _moves(level_db[speech], LULL_MOVES_DB) else MAX_SNR_DB
    moves = _moves(level_db[speech], WHISPER_MOVES_DB)
    whole = wave.reshape(-1)
    quality = Quality(
        speech_s=said_s if pitched >= MIN_PITCHED_FRACTION else 0.0,
        snr_db=min(MAX_SNR_DB, max(0.0, speech_db - _noise_floor_db(level_db, speech))),
        clipped_fraction=float(np.mean(np.abs(frames[speech].astype(np.int32)) >= CLIPPED_LEVEL)),
        level_dbfs=speech_db,
        bandwidth_hz=min(_bandwidth_hz(wave[speech]), _own_hz(wave, speech)),
        decay_db_s=_decay_db_s(wave),
        whispered_s=said_s if moves and _is_whisper(pitched, voiced, lull_db) else 0.0,
        filled=filled_on_a_grid(whole),
        steady_lines=steady_lines(whole),
        lull_db=lull_db,
    )
    wave[:] = 0.0
    return quality


def check(utterance: Utterance, limits: QualityLimits) -> Utterance:
    """The same utterance when it may be judged. Raises the QualityError that a person can do something
    about first."""
    quality = utterance.quality
    measured = (quality.speech_s, quality.snr_db, quality.clipped_fraction, quality.level_dbfs)
    if not all(math.isfinite(value) for value in measured):
        raise QualityError(Flaw.SILENCE, "The recording could not be measured. Please say the phrase again.")
    if quality.speech_s <= 0.0:
        if quality.whispered_s >= MIN_WHISPER_S and quality.level_dbfs >= limits.min_level_dbfs:
            raise QualityError(Flaw.WHISPERED, "A whisper cannot be judged. Please speak aloud.")
        raise QualityError(Flaw.SILENCE, "No voice was heard. Please come closer and say the phrase aloud.")
    if quality.level_dbfs < limits.min_level_dbfs:
        raise QualityError(
            Flaw.SILENCE, "That was too quiet. Please come closer and say the whole phrase aloud."
        )
    if _lost_blocks(utterance.samples):
        raise QualityError(Flaw.GAP, "Part of that was lost. Please say the phrase again.")
    if quality.clipped_fraction > limits.max_clipped_fraction:
        raise QualityError(
            Flaw.CLIPPED, "That was too loud. Please step back a little and say the phrase again."
        )
    talkers = quality.lull_db < limits.min_lull_db and quality.snr_db < TALKERS_SNR_DB
    if quality.snr_db < limits.min_snr_db or talkers:
        raise QualityError(
            Flaw.TOO_NOISY, "It is too noisy to hear you. Please come closer and say the phrase again."
        )
    if quality.speech_s < limits.min_speech_s:
        raise QualityError(Flaw.TOO_SHORT, "That was too short. Please say the whole phrase.")
    return utterance


def _lost_blocks(samples: Samples) -> bool:
    """Whether blocks of the sound were lost on a cable, a radio or in a driver, and replaced by zeros: the
    sound breaks off and begins again abruptly, on the grid of one block size. Pauses and noise gates fade."""
    silent = (samples <= SILENT_LEVEL) & (samples >= -SILENT_LEVEL)
    turns = np.diff(silent.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
    long = (ends - begins >= MIN_GAP_SAMPLES) & (begins >= BESIDE_GAP_SAMPLES)
    long &= ends <= len(samples) - BESIDE_GAP_SAMPLES
    gaps = [
        (int(begin), int(end))
        for begin, end in zip(begins[long], ends[long], strict=True)
        if _is_abrupt(samples[begin - BESIDE_GAP_SAMPLES : begin][::-1])
        and _is_abrupt(samples[end : end + BESIDE_GAP_SAMPLES])
    ]
    edges = np.array([edge for gap in gaps for edge in gap], dtype=np.float64)
    if len(gaps) < MIN_GAPS:
        return False
    for block_ms in LOST_BLOCKS_MS:
        block = block_ms * SAMPLE_RATE_HZ / 1_000
        for first in edges[:6]:
            off = np.abs((edges - first + block / 2) % block - block / 2) <= GRID_SAMPLES
            if off.mean() >= ON_GRID:
                return True
    return False


def _is_abrupt(samples: Samples) -> bool:
    """Whether the sound beside a gap is at its full level at once; `samples` begin at the gap."""
    beside = samples.astype(np.float32)
    level = float(np.sqrt(np.square(beside).mean()))
    return level >= MIN_GAP_LEVEL and float(np.abs(beside[:EDGE_SAMPLES]).max()) > 0.7 * level


def _decibels(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DBFS / 10.0))))


def _noise_floor_db(level_db: npt.NDArray[np.float64], speech: Flags) -> float:
    """The level of what is not speech; the quietest tenth where hardly a frame is. The louder of the two
    counts, which errs towards refusing."""
    quietest = float(np.percentile(level_db, 10))
    around = level_db[~speech]
    return max(quietest, float(np.median(around))) if len(around) >= 5 else quietest


def _pitched(wave: _Frames, speech: Flags) -> tuple[float, float]:
    """Which share of speech frames repeat themselves at a voice's pitch (autocorrelation, 40 ms windows):
    at all, and strongly."""
    first = np.flatnonzero(speech)
    if len(first) > MAX_PITCH_FRAMES:
        first = first[np.linspace(0, len(first) - 1, MAX_PITCH_FRAMES).astype(int)]
    strength = pitch_strength(wave, first)
    # Nothing repeats itself better than perfectly: more than that is a click in the window's skirt.
    strength = np.where(strength < 1.2, strength, 0.0)
    return float((strength > PITCH_STRENGTH).mean()), float((strength > VOICED_STRENGTH).mean())


def _moves(speech_db: npt.NDArray[np.float64], least_db: float) -> bool:
    """Whether the level of what the detector calls speech rises and falls as syllables do."""
    return len(speech_db) > 1 and float(speech_db.std()) >= least_db


def _is_whisper(pitched: float, voiced: float, lull_db: float) -> bool:
    """Whether hardly any of it has a voice's pitch, in surroundings quiet enough to tell."""
    return pitched < WHISPER_PITCHED and voiced < WHISPER_VOICED and lull_db >= WHISPER_LULL_DB


def _lull_db(level_db: npt.NDArray[np.float64]) -> float:
    """How far the louder half of all frames stands above the quietest of all 100 ms. Between the words of
    one person it is quiet; between those of several it is not, and a detector calls all of it speech."""
    if len(level_db) < 2 * LULL_FRAMES:
        return MAX_SNR_DB
    power = np.power(10.0, level_db / 10.0)
    stretches = np.convolve(power, np.full(LULL_FRAMES, 1.0 / LULL_FRAMES), "valid")
    louder = power[power >= np.median(power)].mean()
    lull_db = float(_decibels(louder)) - float(_decibels(np.percentile(stretches, LULL_PERCENTILE)))
    return min(MAX_SNR_DB, lull_db)


def _bandwidth_hz(speech_frames: _Frames) -> float:
    """The highest frequency at which the long-term spectrum is within 55 dB of its strongest part."""
    step = max(1, len(speech_frames) // MAX_PITCH_FRAMES)
    windows = speech_frames[::step] * np.hanning(FRAME_SAMPLES).astype(np.float32)
    spectrum_db = _decibels(np.square(np.abs(rfft(windows, axis=1))).mean(axis=0))
    carried = np.flatnonzero(spectrum_db >= spectrum_db.max() - BANDWIDTH_RANGE_DB)
    return float(carried[-1]) * SAMPLE_RATE_HZ / FRAME_SAMPLES


def _own_hz(wave: _Frames, speech: Flags) -> float:
    """The highest frequency of the speech itself: what lies above is a mirror image, or was made of it. What
    was taken to any lower rate and back counts as no wider than a telephone, whether it mirrors itself or
    breaks off: a converter or coder of 9 to 12 kHz hides as much of a synthesiser as one of 8."""
    hz = min(band.own_hz(wave.reshape(-1)), cliff.cut_hz(wave.reshape(-1)))
    if hz < SAMPLE_RATE_HZ / 2:
        return min(hz, made_band.SEAM_HZ)
    spoken = np.flatnonzero(speech)
    said = wave[spoken[0] : spoken[-1] + 1].reshape(-1)
    return made_band.SEAM_HZ if made_band.is_made(said) else hz


def _decay_db_s(frames: _Frames) -> float:
    """The slope of the fastest tenth of all changes of level over 80 ms; a room's tail bounds it."""
    windows = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(FRAME_SAMPLES).astype(np.float32)
    power = np.square(np.abs(rfft(windows, 512, axis=1)))[:, _IN_DECAY_BAND].sum(axis=1)
    level_db = _decibels(power)
    windows[:] = 0.0
    falls = (level_db[DECAY_FRAMES:] - level_db[:-DECAY_FRAMES]) / (DECAY_FRAMES * FRAME_MS / 1_000)
    falls = falls[level_db[:-DECAY_FRAMES] > np.percentile(level_db, 10) + DECAY_FROM_DB]
    return max(0.0, -float(np.percentile(falls, FASTEST_SHARE))) if len(falls) > DECAY_FRAMES else 0.0


_DECAY_BINS_HZ = np.fft.rfftfreq(512, 1.0 / SAMPLE_RATE_HZ)
_IN_DECAY_BAND = (DECAY_RANGE_HZ[0] <= _DECAY_BINS_HZ) & (DECAY_RANGE_HZ[1] >= _DECAY_BINS_HZ)
