"""Names the class of processor by what it computes: flags mislead in containers and under emulation."""

from __future__ import annotations

import base64
import ctypes
import platform
from functools import cache

import numpy as np

# `y = MatMulInteger(a, b)`: a (1, 4) uint8, b (4, 1) int8, y (1, 1) int32.
_PROBE = base64.b64decode(
    "CAkSADpcChgKAWEKAWISAXkiDU1hdE11bEludGVnZXISAWdaEwoBYRIOCgwIAhIICgIIAQoCCARaEwoBYhIOCgwIAxIICgIIBAoCCAFi"
    "EwoBeRIOCgwIBhIICgIIAQoCCAFCBAoAEBE="
)
_HWCAP, _DOT_PRODUCT, _MATRIX = 16, 1 << 20, 1 << 13
"""getauxval(3) and the bit of Armv8.2's dot product; AT_HWCAP2's bit of Armv8.6's matrix product."""
_HWCAP2 = 26


@cache
def saturates() -> bool:
    """Whether ONNX Runtime adds INT8 products in 16 bits here and loses the top: x86 without VNNI does."""
    import onnxruntime as ort

    session = ort.InferenceSession(_PROBE, providers=["CPUExecutionProvider"])
    given = {"a": np.full((1, 4), 255, np.uint8), "b": np.full((4, 1), 127, np.int8)}
    return int(session.run(["y"], given)[0][0, 0]) != 4 * 255 * 127


def processor_class() -> str:
    """Such as `x86-64-vnni`: processors of one class compute INT8 products in one way."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return "x86-64" if saturates() else "x86-64-vnni"
    if machine == "aarch64":
        features, more = _capabilities()
        return "aarch64" + ("-i8mm" if more & _MATRIX else "-dotprod" if features & _DOT_PRODUCT else "")
    return machine or "unknown"


def _capabilities() -> tuple[int, int]:
    ask = getattr(ctypes.CDLL(None), "getauxval", None)
    if ask is None:
        return 0, 0
    ask.restype = ctypes.c_ulong
    return int(ask(_HWCAP)), int(ask(_HWCAP2))
