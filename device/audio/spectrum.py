"""The one Fourier transform of sound: in double precision, whichever NumPy is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def rfft(real: npt.NDArray[Any], size: int | None = None, axis: int = -1) -> npt.NDArray[np.complex128]:
    """`numpy.fft.rfft` of `real` in float64; NumPy 2 would transform float32 in single precision.

    A unit on Python 3.11 has NumPy 1, one on 3.13 has NumPy 2, and both must give a person the same scores.
    """
    return np.fft.rfft(real.astype(np.float64, copy=False), size, axis=axis)
