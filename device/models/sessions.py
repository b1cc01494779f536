"""The only place that opens inference sessions. One small interface, whatever runtime is behind it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from device.errors import DeviceError

Array = npt.NDArray[Any]


class SessionError(DeviceError):
    """A model cannot be opened, or refuses what it was given."""


class Session(Protocol):
    """One opened network: arrays by input name in, outputs in the network's own order out."""

    def run(self, inputs: dict[str, Array]) -> list[Array]: ...


@cache
def saturates() -> bool:
    """Whether this processor adds INT8 products in 16 bits and loses the top: x86 without VNNI does."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True  # unknown: stay exact


class OnnxSession:
    """A network in ONNX Runtime on the CPU."""

    def __init__(self, network: Path | bytes, threads: int = 1) -> None:
        """`network` is a file or its bytes; raises SessionError when this runtime cannot open it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Between attempts the unit must be idle: no worker spins while it waits for work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # x86 without VNNI adds INT8 products in 16 bits and saturates; this costs a little and stays exact.
        options.add_session_config_entry("session.x64quantprecision", "1")
        # Utterances differ in length: planning memory by shape would keep a plan and an arena for each.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            given = network if isinstance(network, bytes) else str(network)
            self._session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # the runtime raises its own undocumented types
            name = "the network" if isinstance(network, bytes) else network.name
            raise SessionError(f"{name} cannot be opened ({_first_line(err)})") from err
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """Every output, in the network's order; raises SessionError when it fails."""
        try:
            results = self._session.run(self._outputs, inputs)
        except Exception as err:  # the runtime raises its own undocumented types
            raise SessionError(f"a model failed ({_first_line(err)})") from err
        return [np.asarray(result) for result in results]


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
