"""A recording through a loudspeaker into a room: what an attacker's phone does at the door.

The loudspeaker is a band limit, a few resonances and a soft non-linearity; the room is an image-source
response (`pyroomacoustics`) or a measured one; `augment` adds the microphone's noise. It is a simulation.
Waves and responses have shape (n,), at 16 kHz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.train.speech.corpus import Wave
from sync.plain_file import plain_path

RESPONSE_SAMPLES = 6400


def convolve(wave: Wave, response: Wave) -> Wave:
    """`wave` in a room, as long as before."""
    heard: Wave = signal.fftconvolve(wave, response)[: len(wave)].astype(np.float32)
    return heard


def loudspeaker(wave: Wave, rng: np.random.Generator) -> Wave:
    """`wave` as a small loudspeaker renders it; level kept."""
    level = float(np.sqrt((wave**2).mean())) + 1e-9
    x: Wave = wave / (np.abs(wave).max() + 1e-9)
    drive = rng.uniform(0.3, 2.5)
    x = np.tanh(drive * x + rng.uniform(0, 0.15) * drive * x**2)
    low, high = rng.uniform(120, 600), rng.uniform(4500, 7700)
    x = signal.sosfilt(
        signal.butter(int(rng.integers(1, 4)), low, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), x
    )
    x = signal.sosfilt(
        signal.butter(int(rng.integers(1, 4)), high, "lowpass", fs=SAMPLE_RATE_HZ, output="sos"), x
    )
    for _ in range(int(rng.integers(2, 6))):
        x = _peak(x, rng.uniform(300, 6500), rng.uniform(-9, 9), rng.uniform(1, 8))
    played: Wave = (x * (level / (np.sqrt((x**2).mean()) + 1e-9))).astype(np.float32)
    return played


def _peak(x: Wave, centre_hz: float, gain_db: float, q: float) -> Wave:
    """A peaking equaliser (Bristow-Johnson's cookbook)."""
    a, w = 10 ** (gain_db / 40), 2 * np.pi * centre_hz / SAMPLE_RATE_HZ
    alpha = np.sin(w) / (2 * q)
    b = [1 + alpha * a, -2 * np.cos(w), 1 - alpha * a]
    filtered: Wave = signal.lfilter(b, [1 + alpha / a, -2 * np.cos(w), 1 - alpha / a], x)
    return filtered


def rooms(data: Path, seed: int = 7, simulated: int = 60) -> tuple[list[Wave], list[Wave]]:
    """Room responses, unit energy, direct sound first: (for training, for testing). The two share no room."""
    import pyroomacoustics as pra

    rng = np.random.default_rng(seed)
    made = []
    for _ in range(simulated):
        size = rng.uniform([2.0, 2.0, 2.3], [8.0, 6.0, 3.5])
        absorption, order = pra.inverse_sabine(rng.uniform(0.15, 0.6), size)
        room = pra.ShoeBox(
            size, fs=SAMPLE_RATE_HZ, materials=pra.Material(min(absorption, 0.95)), max_order=min(order, 12)
        )
        microphone = np.array([rng.uniform(0.3, size[0] - 0.3), 0.1, rng.uniform(1.2, 1.6)])
        direction = rng.standard_normal(3) * [1, 0.3, 0.3] + [0, 1.5, 0]
        source = microphone + direction / np.linalg.norm(direction) * rng.uniform(0.15, 1.2)
        room.add_source(np.clip(source, 0.05, size - 0.05))
        room.add_microphone(microphone)
        room.compute_rir()
        made.append(_tidy(room.rir[0][0]))
    measured = []
    for path in sorted((data / "impulse_responses").glob("*.flac")):
        if "telephone" not in path.name:
            measured.append(_tidy(soundfile.read(plain_path(path), dtype="float32", always_2d=True)[0][:, 0]))
    both = [r for pair in zip(made, measured + made, strict=False) for r in pair]
    cut = len(both) * 3 // 4
    return both[:cut], both[cut:]


def _tidy(response: Wave) -> Wave:
    response = response[max(0, int(np.abs(response).argmax()) - 16) :][:RESPONSE_SAMPLES]
    unit: Wave = (response / (np.sqrt((response**2).sum()) + 1e-9)).astype(np.float32)
    return unit
