"""What staff and rooms do to a recording: words around the phrase, coughs, whispers, tones, buzz, voices.

And what an attacker does to fill an empty upper band: converters from 8 kHz and back. Nothing here is fitted;
every draw follows from the path of a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.feedback.earcons import Earcon, waveform
from quantize.playback import pink, rms

LPC_ORDER, LPC_SAMPLES, LPC_HOP = 18, 480, 120
WHISPER_DB = -15.0
"""Of the voice's level: what a whisper has."""
BUZZ_HZ = (100.04, 120.03)
ROOM_DB = -25.0
"""Of room noise under the speech, beside buzz and alarms."""
QUIET_ROOM_DB = -40.0
LOST_SHARE, FILLED_DB = 0.1, -40.0
TICK_DB = -17.0
"""Ten such clicks a second are 38 dB below the speech in power."""
ALARM_PULSE_S, ALARM_GAPS_S = 0.15, (0.1, 0.1, 0.3, 0.1, 0.8)
"""Five pulses and a rest: IEC 60601-1-8, high priority, half of a burst."""


def active_level(wave: npt.NDArray[Any]) -> float:
    """Root mean square of the louder half of all 20 ms frames."""
    frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
    power = np.square(frames.astype(np.float64)).mean(axis=1)
    return float(np.sqrt(power[power >= np.median(power)].mean())) if len(power) else 0.0


def floor_level(wave: Wave) -> float:
    """Root mean square of the quietest tenth of all 20 ms frames."""
    frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
    power = np.sort(np.square(frames.astype(np.float64)).mean(axis=1))
    return float(np.sqrt(power[: max(1, len(power) // 10)].mean()))


def quiet(seconds: float, level: float, dice: np.random.Generator) -> Wave:
    """So much of a quiet room."""
    length = round(seconds * SAMPLE_RATE_HZ)
    noise = pink(length, dice)
    return np.asarray(noise * np.float32(max(level, 2e-5) / max(rms(noise), 1e-9)), np.float32)


def with_burst(wave: Wave, burst: Wave, at_s: float, db: float) -> Wave:
    """`burst` added from `at_s` on, its loudest 50 ms so far over the speech's level."""
    start = round(at_s * SAMPLE_RATE_HZ)
    loud = np.sqrt(np.convolve(np.square(burst.astype(np.float64)), np.full(800, 1 / 800), "same").max())
    piece = burst * np.float32(active_level(wave) * 10 ** (db / 20) / max(loud, 1e-9))
    mixed = np.pad(wave, (0, max(0, start + len(piece) - len(wave))))
    mixed[start : start + len(piece)] += piece
    return np.clip(mixed, -1.0, 32767 / 32768).astype(np.float32)


def cut_burst(noise: Wave, longest_s: float = 0.6) -> Wave:
    """The loudest stretch of a recorded noise, faded at both ends."""
    power = np.convolve(np.square(noise.astype(np.float64)), np.full(800, 1 / 800), "same")
    peak, half = int(power.argmax()), round(longest_s * SAMPLE_RATE_HZ / 2)
    piece = noise[max(0, peak - half) : peak + half].copy()
    fade = min(320, len(piece) // 4)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    piece[:fade] *= ramp
    piece[len(piece) - fade :] *= ramp[::-1]
    return piece


def coughs(dice: np.random.Generator, times: int) -> Wave:
    """So many coughs as they are described (Korpas, Sadlonova and Vrabec 1996): 30 to 60 ms in which the
    glottis bursts open, 100 to 250 ms of noise that dies away through a throat's resonances, and in half of
    them 60 to 150 ms of voice with a falling pitch. Made, for there are no recordings of coughs here."""
    made: list[npt.NDArray[np.float32]] = []
    for _ in range(times):
        made += [_one_cough(dice), np.zeros(round(dice.uniform(0.05, 0.2) * SAMPLE_RATE_HZ), np.float32)]
    return np.concatenate(made[:-1]).astype(np.float32)


def _one_cough(dice: np.random.Generator) -> Wave:
    opening, dying, voiced = (
        round(dice.uniform(low, high) * SAMPLE_RATE_HZ)
        for low, high in ((0.03, 0.06), (0.1, 0.25), (0.06, 0.15))
    )
    voiced = voiced if dice.random() < 0.5 else 0
    length = opening + dying + voiced
    noise = dice.normal(size=length)
    at = np.arange(length)
    level = np.minimum(at / (0.004 * SAMPLE_RATE_HZ), 1.0) * np.where(
        at < opening, 1.0, np.exp(-(at - opening) / (dice.uniform(0.35, 0.8) * max(dying, 1)))
    )
    turns = np.cumsum(np.linspace(dice.uniform(180, 350), dice.uniform(90, 160), length)) / SAMPLE_RATE_HZ
    pulses = np.diff(np.floor(turns), prepend=0.0) * 6.0
    source = noise * level
    source[length - voiced :] += (pulses * np.linspace(0.7, 0.1, length))[length - voiced :]
    for hz, width_hz in (
        (dice.uniform(350, 700), 150),
        (dice.uniform(1_000, 1_800), 250),
        (dice.uniform(2_400, 3_600), 500),
    ):
        source = source + 2.0 * _resonance(source, float(hz), float(width_hz))
    return np.asarray(source / max(float(np.abs(source).max()), 1e-9), np.float32)


def _resonance(source: npt.NDArray[Any], hz: float, width_hz: float) -> npt.NDArray[Any]:
    """`source` through a band around `hz`, in one go through its spectrum."""
    spectrum = np.fft.rfft(source, 2 * len(source))
    axis = np.fft.rfftfreq(2 * len(source), 1 / SAMPLE_RATE_HZ)
    gain = 1.0 / np.sqrt(1.0 + np.square((axis - hz) / (width_hz / 2)))
    through: npt.NDArray[Any] = np.fft.irfft(spectrum * gain)[: len(source)]
    return through


def click(dice: np.random.Generator) -> Wave:
    """A switch: 8 ms of noise that dies away."""
    length = round(0.03 * SAMPLE_RATE_HZ)
    return np.asarray(dice.normal(size=length) * np.exp(-np.arange(length) / 40.0), np.float32)


def filled(wave: Wave, block_ms: float, dice: np.random.Generator) -> Wave:
    """A tenth of the blocks lost on the way, and a driver's noise in their place, FILLED_DB."""
    block, heard = round(block_ms * SAMPLE_RATE_HZ / 1_000), wave.copy()
    level = active_level(wave) * 10 ** (FILLED_DB / 20)
    for begin in range(int(dice.integers(block)), len(wave) - block, block):
        if dice.random() < LOST_SHARE:
            heard[begin : begin + block] = dice.normal(size=block) * level
    return heard


def ticking(length: int, per_s: float, dice: np.random.Generator) -> Wave:
    """A relay or a supply: a click so many times a second, as evenly as a clock; TICK_DB at its peak."""
    made = np.zeros(length, np.float32)
    for second in np.arange(0.05, length / SAMPLE_RATE_HZ - 0.05, 1.0 / per_s):
        tick = dice.normal(size=64) * np.exp(-np.arange(64) / 12.0)
        begin = round(second * SAMPLE_RATE_HZ)
        made[begin : begin + 64] += (10 ** (TICK_DB / 20) * tick / np.abs(tick).max()).astype(np.float32)
    return made


def whispered(wave: Wave, dice: np.random.Generator) -> Wave:
    """The same mouth without the voice: the residual of linear prediction replaced by noise, 15 dB down.

    An imitation: a real whisper also moves its formants up a little. The envelope of every 30 ms stays.
    """
    padded = np.pad(wave.astype(np.float64), (LPC_SAMPLES, LPC_SAMPLES))
    made, window = np.zeros(len(padded)), np.hanning(LPC_SAMPLES + 1)[:-1]
    noise = dice.normal(size=len(padded))
    for start in range(0, len(padded) - LPC_SAMPLES, LPC_HOP):
        piece = padded[start : start + LPC_SAMPLES] * window
        own = np.correlate(piece, piece, "full")[LPC_SAMPLES - 1 : LPC_SAMPLES + LPC_ORDER]
        own[0] = own[0] * 1.0001 + 1e-12
        square = own[np.abs(np.arange(LPC_ORDER)[:, None] - np.arange(LPC_ORDER))]
        predictor = np.linalg.solve(square, own[1:])
        left = max(own[0] - predictor @ own[1:], 0.0) / LPC_SAMPLES
        envelope = np.fft.rfft(np.concatenate([[1.0], -predictor]), 2 * LPC_SAMPLES)
        spectrum = np.fft.rfft(noise[start : start + LPC_SAMPLES] * window, 2 * LPC_SAMPLES)
        breath = np.fft.irfft(spectrum / envelope * np.sqrt(left) * 1.6)[:LPC_SAMPLES]
        made[start : start + LPC_SAMPLES] += breath
    whisper = made[LPC_SAMPLES : LPC_SAMPLES + len(wave)]
    # A throat that does not sound has little below 300 Hz.
    hz = np.fft.rfftfreq(len(whisper), 1.0 / SAMPLE_RATE_HZ)
    whisper = np.fft.irfft(
        np.fft.rfft(whisper) / np.sqrt(1 + (300.0 / np.maximum(hz, 1.0)) ** 6), len(whisper)
    )
    whisper = whisper.astype(np.float32)
    gain = active_level(wave) * 10 ** (WHISPER_DB / 20) / max(active_level(whisper), 1e-9)
    return np.asarray(whisper * np.float32(gain) + quiet(len(wave) / SAMPLE_RATE_HZ, 0.0, dice)[: len(wave)])


def in_room_noise(wave: Wave, dice: np.random.Generator, db: float = ROOM_DB) -> Wave:
    noise = pink(len(wave), dice)
    return np.asarray(
        wave + noise * np.float32(active_level(wave) * 10 ** (db / 20) / rms(noise)), np.float32
    )


def buzz(length: int, hz: float) -> Wave:
    """A rectifier: harmonics up to 7 kHz that fall slowly, of unit level."""
    at = np.arange(length) / SAMPLE_RATE_HZ
    made = np.sum(
        [np.sin(2 * np.pi * hz * n * at + 0.7 * n * n) / np.sqrt(n) for n in range(1, int(7_000 / hz))], 0
    )
    return np.asarray(made / rms(made), np.float32)


def alarm(length: int, hz: float) -> Wave:
    """A monitor's alarm: a fundamental and four harmonics, pulse by pulse; unit level while it sounds."""
    at = np.arange(length) / SAMPLE_RATE_HZ
    tone = np.sum([np.sin(2 * np.pi * hz * n * at) / n for n in range(1, 6)], 0)
    gate, start, turn = np.zeros(length), 0.05, 0
    while start * SAMPLE_RATE_HZ < length:
        first, last = round(start * SAMPLE_RATE_HZ), round((start + ALARM_PULSE_S) * SAMPLE_RATE_HZ)
        gate[first:last] = 1.0
        start += ALARM_PULSE_S + ALARM_GAPS_S[turn % len(ALARM_GAPS_S)]
        turn += 1
    ramp = np.hanning(322)[1:-1]
    gate = np.convolve(gate, ramp / ramp.sum(), "same")
    return np.asarray(tone / rms(tone) * gate, np.float32)


def beside(wave: Wave, sound: Wave, db: float) -> Wave:
    """`sound` of unit level so far under (or over) the speech."""
    return np.asarray(
        wave + sound[: len(wave)] * np.float32(active_level(wave) * 10 ** (db / 20)), np.float32
    )


def tone() -> Wave:
    """The door's own tone, as loud as its loudspeaker is at its microphone."""
    return waveform(Earcon.SPEAK_NOW).astype(np.float32) / np.float32(32768.0)


# --- converters: 16 kHz to another rate and back ------------------------------------------------------------

POLYPHASE: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
    "Kaiser": lambda n: np.kaiser(n, 5.0),
    "Hamming": np.hamming,
    "Blackman": np.blackman,
    "no window": np.ones,
}
CONVERTERS = (*(f"polyphase, {name}" for name in POLYPHASE), "linear", "hold", "four taps", "linear, 6 kHz")
"""`polyphase, Blackman`, `four taps` and `linear, 6 kHz` were not looked at while the guard was made."""


def converted(wave: Wave, converter: str) -> Wave:
    """`wave` taken to 8 (or 6) kHz and back by one of CONVERTERS, as cheap programs do it."""
    kind, _, how = converter.partition(", ")
    rate_hz = 6_000.0 if how == "6 kHz" else 8_000.0
    if kind == "polyphase":
        taps = _low_pass(POLYPHASE[how](41))
        low = np.convolve(wave, taps, "same")[::2]
        up = np.zeros(2 * len(low))
        up[::2] = low
        return np.asarray(np.convolve(up, 2 * taps, "same")[: len(wave)], np.float32)
    steep = _low_pass(np.kaiser(401, 9.0), rate_hz / SAMPLE_RATE_HZ)
    narrow = np.convolve(wave, steep, "same")
    places = np.arange(0, len(wave), SAMPLE_RATE_HZ / rate_hz)
    low = np.interp(places, np.arange(len(wave)), narrow)
    wanted = np.arange(len(wave)) * rate_hz / SAMPLE_RATE_HZ
    if kind == "hold":
        back = low[np.minimum(wanted.astype(int), len(low) - 1)]
    elif kind == "linear":
        back = np.interp(wanted, np.arange(len(low)), low)
    else:  # Catmull-Rom: four taps
        at = np.minimum(wanted.astype(int), len(low) - 1)
        t = wanted - at
        p0, p1, p2, p3 = (low[np.clip(at + k, 0, len(low) - 1)] for k in (-1, 0, 1, 2))
        back = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return np.asarray(back, np.float32)


def _low_pass(window: npt.NDArray[np.float64], edge: float = 0.5) -> npt.NDArray[np.float64]:
    """A windowed sinc, `edge` in shares of half the sample rate."""
    at = np.arange(len(window)) - (len(window) - 1) / 2
    taps = np.sinc(edge * at) * window
    return np.asarray(taps / taps.sum())
