"""The one Fourier transform of sound, in double precision whichever NumPy is installed, and what is made
of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def rfft(real: npt.NDArray[Any], size: int | None = None, axis: int = -1) -> npt.NDArray[np.complex128]:
    """`numpy.fft.rfft` of `real` in float64; NumPy 2 would transform float32 in single precision. A unit
    on Python 3.11 has NumPy 1, one on 3.13 has NumPy 2, and both must give a person the same scores."""
    return np.fft.rfft(real.astype(np.float64, copy=False), size, axis=axis)


def fine_structure(power: Floats, floor: float, bins: int) -> Floats:
    """The log of `power` (frames, bins) above `floor`, less its mean over `bins` and over all frames. The
    second takes out what does not change: hum, buzz."""
    logs = np.log(power + floor)
    pad = bins // 2
    total = np.pad(logs, ((0, 0), (pad + 1, pad)), mode="edge").cumsum(axis=1)
    fine: Floats = logs - (total[:, bins:] - total[:, :-bins]) / bins
    fine -= fine.mean(axis=0)
    return fine
