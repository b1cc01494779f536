"""Rooms for judging, by mirror images of the talker in six walls (Allen and Berkley 1979).

Weights that ship are fitted in rooms of another kind (`quantize/playback.py`: a decaying tail), so that no
figure from here is of the simulation that something was fitted on.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Wave

SOUND_M_S = 343.0
ROOMS = 12
"""Rooms of each kind; a recording is heard in one of them."""
MOST_ORDER = 10
NEAR_M, FAR_M = (0.35, 0.9), (1.9, 2.1)
NEAR_DECAY_S, FAR_DECAY_S = (0.2, 0.5), (0.5, 0.8)


@cache
def response(number: int, far: bool) -> Wave:
    """The impulse response of one room, direct sound first and unit energy; the door's microphone hangs on a
    wall."""
    dice = np.random.default_rng([11, number, far])
    size = dice.uniform([2.5, 3.0, 2.4], [7.0, 8.0, 3.4])
    decay_s = dice.uniform(*(FAR_DECAY_S if far else NEAR_DECAY_S))
    volume, surface = size.prod(), 2.0 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    reflection = np.sqrt(1.0 - min(0.95, 0.161 * volume / (surface * decay_s)))
    microphone = np.array([dice.uniform(0.8, size[0] - 0.8), 0.05, dice.uniform(1.2, 1.5)])
    aside = dice.uniform(-0.5, 0.5)
    away = np.array([np.sin(aside), np.cos(aside), 0.1]) * dice.uniform(*(FAR_M if far else NEAR_M))
    talker = np.clip(microphone + away, 0.1, size - 0.1)
    steps = np.arange(-MOST_ORDER, MOST_ORDER + 1)
    axes = [_images(steps, talker[axis], size[axis], microphone[axis]) for axis in range(3)]
    squares = [distance**2 for distance, _ in axes]
    away_m = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
    order = axes[0][1][:, None, None] + axes[1][1][None, :, None] + axes[2][1][None, None, :]
    kept = order <= 2 * MOST_ORDER
    # Hard walls give coloured flutter; a sign by chance for late images is what scattering does.
    signs = np.where(order[kept] > 3, dice.choice([-1.0, 1.0], int(kept.sum())), 1.0)
    gains = signs * reflection ** order[kept] / away_m[kept]
    places = np.rint((away_m[kept] - away_m.min()) / SOUND_M_S * SAMPLE_RATE_HZ).astype(int)
    within = places < SAMPLE_RATE_HZ // 2
    found = np.bincount(places[within], gains[within])
    made: Wave = (found / np.sqrt((found**2).sum())).astype(np.float32)
    return made


def _images(
    steps: npt.NDArray[np.int_], talker: float, size: float, microphone: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int_]]:
    """(distance along one axis, how often mirrored) of every image."""
    same, mirrored = 2 * steps * size + talker, 2 * steps * size - talker
    places = np.concatenate([same, mirrored]) - microphone
    return places, np.concatenate([np.abs(2 * steps), np.abs(2 * steps - 1)])


def through(wave: Wave, response: Wave) -> Wave:
    """`wave` (n,) by way of a response, with what comes after it."""
    length = len(wave) + len(response) - 1
    size = 1 << length.bit_length()
    found = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)
    heard: Wave = found[:length].astype(np.float32)
    return heard
