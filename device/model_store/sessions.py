"""The only place that opens inference sessions. One small interface, whatever runtime is behind it."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from device.errors import DeviceError
from device.model_store.processor import saturates
from sync.plain_file import NETWORK_BYTES, check_plain, plain_bytes

Array = npt.NDArray[Any]

_LOG = logging.getLogger(__name__)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""mallopt(3), the GNU C library's numbers."""
LARGE_BYTES = 32 << 20
KEPT_BYTES = 64 << 20


def give_memory_back() -> None:
    """Return what is free to the system; call it when a piece of work is over. Takes two milliseconds.
    What the networks compute in comes from the heap and stays there: 50 MB after a judgement."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _keep_memory_while_working() -> None:
    """Have one heap for all threads, and return nothing of it before `give_memory_back`. Left alone, the
    allocator keeps a heap for each thread, a third more memory, and returns the end of a heap with every
    large tensor: a judgement then meets 7,000 page faults instead of 2,000."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None and platform.libc_ver()[0] == "glibc":
        tune(M_ARENA_MAX, 1)
        tune(M_MMAP_THRESHOLD, LARGE_BYTES)
        tune(M_TRIM_THRESHOLD, KEPT_BYTES)


_keep_memory_while_working()


class SessionError(DeviceError):
    """A model cannot be opened, or refuses what it was given."""


class NoMemoryError(SessionError):
    """The machine lacks memory. The model is whole: building it again would help nobody."""


class Session(Protocol):
    """One opened network: arrays by input name in, outputs in the network's own order out."""

    def run(self, inputs: dict[str, Array]) -> list[Array]: ...


class Runtime(StrEnum):
    """What runs a network. The first is always there."""

    ONNX = "onnxruntime"
    FLOAT = "onnxruntime-float"
    """The same file and the same integers, multiplied in float: where eight bits are slow or wrong."""
    TFLITE = "tflite"
    XNNPACK = "tflite-xnnpack"
    """TFLite with its delegate: other kernels, which pack the weights once more in memory."""


ONNX_FORMS = (Runtime.ONNX, Runtime.FLOAT)
"""These open the ONNX file, the others its TFLite variant."""


class OnnxSession:
    """A network in ONNX Runtime on the CPU."""

    def __init__(self, network: Path | bytes, threads: int = 1, *, float_products: bool = False) -> None:
        """`network` is a file or its bytes; raises SessionError when this runtime cannot open it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Between attempts the unit must be idle: no worker spins while it waits for work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if saturates():  # exact sums cost two thirds more, so they are for processors that need them
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Utterances differ in length: planning memory by shape would keep a plan and an arena for each.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        # Planning which tensor may lie where another lay takes CAM++'s 1,200 nodes a second, and saves
        # nothing: without an arena every tensor is freed after its last use anyway.
        options.enable_mem_reuse = False
        options.log_severity_level = 3
        try:
            if not isinstance(network, bytes):
                check_plain(network)
            given = network if isinstance(network, bytes) else str(network)
            if float_products:
                from device.model_store.float_products import (
                    in_float,
                )  # loads a library that is rarely needed

                options.add_session_config_entry("session.disable_quant_qdq", "1")
                given = in_float(
                    network if isinstance(network, bytes) else plain_bytes(network, NETWORK_BYTES)
                )
            self._session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # the runtime raises its own undocumented types
            name = "the network" if isinstance(network, bytes) else network.name
            raise _not_opened(name, err) from err
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself beside the network."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """Of every input by name; a dimension that may vary has a name instead of a number."""
        return {value.name: tuple(value.shape) for value in self._session.get_inputs()}

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """Every output, in the network's order; raises SessionError when it fails."""
        try:
            results = self._session.run(self._outputs, inputs)
        except Exception as err:  # the runtime raises its own undocumented types
            raise _failed(err) from err
        return [np.asarray(result) for result in results]


TFLITE_PACKAGES = ("ai_edge_litert", "tflite_runtime")
"""One interpreter under two names. The second ends with Python 3.11 and is slower; to fall back on."""


@cache
def tflite_interpreter(packages: tuple[str, ...] = TFLITE_PACKAGES) -> Any:
    """The module with TFLite's interpreter; raises SessionError where none is installed."""
    for package in packages:
        try:
            return importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
    raise SessionError("no TFLite runtime is installed; ONNX Runtime serves")


class TfliteSession:
    """A network in TFLite on the CPU. One input of varying length is resized to what it is given."""

    def __init__(
        self,
        network: Path | bytes,
        threads: int = 1,
        xnnpack: bool = False,
        packages: tuple[str, ...] = TFLITE_PACKAGES,
    ) -> None:
        """`network` is a file or its bytes; raises SessionError when this runtime cannot open it. TFLite
        believes its file: one that was cut or altered may end the process. Give it verified ones only."""
        module = tflite_interpreter(packages)
        kinds = module.OpResolverType
        kind = kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        name = "the network" if isinstance(network, bytes) else network.name
        try:
            content = network if isinstance(network, bytes) else plain_bytes(network, NETWORK_BYTES)
            with _stderr_closed():
                self._interpreter = module.Interpreter(
                    model_content=content, num_threads=threads, experimental_op_resolver_type=kind
                )
                self._interpreter.allocate_tensors()
            self._inputs = {item["name"]: item for item in self._interpreter.get_input_details()}
            self._outputs = [item["index"] for item in self._interpreter.get_output_details()]
        except Exception as err:  # the runtime raises its own undocumented types
            raise _not_opened(name, err) from err
        self._shapes = {name: tuple(item["shape"]) for name, item in self._inputs.items()}
        # Unlike ONNX Runtime's, an interpreter holds the tensors of one run.
        self._alone = threading.Lock()

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """Every output, in the network's order; raises SessionError when it fails."""
        if inputs.keys() != self._inputs.keys():
            raise SessionError(f"a model failed (it takes {sorted(self._inputs)}, not {sorted(inputs)})")
        with self._alone:
            try:
                self._resize(inputs)
                for name, value in inputs.items():
                    self._interpreter.set_tensor(self._inputs[name]["index"], value)
                self._interpreter.invoke()
                return [np.array(self._interpreter.get_tensor(index)) for index in self._outputs]
            except Exception as err:  # the runtime raises its own undocumented types
                self._shapes = {}  # what it was resized to is not known any more
                raise _failed(err) from err

    def _resize(self, inputs: dict[str, Array]) -> None:
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shapes = shapes


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """TFLite announces its delegate to every reader of stderr, and has no switch for it."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def open_session(network: Path | bytes, runtime: Runtime, threads: int = 1) -> Session:
    """`network`, a file of the form `runtime` reads, opened in it; raises SessionError."""
    if runtime in ONNX_FORMS:
        return OnnxSession(network, threads, float_products=runtime is Runtime.FLOAT)
    return TfliteSession(network, threads, xnnpack=runtime is Runtime.XNNPACK)


def _not_opened(name: str, err: Exception) -> SessionError:
    if _lacks_memory(err):
        return NoMemoryError(f"there is no memory left to open {name}: end what else runs; {name} is whole")
    _LOG.debug("of %s the runtime says: %s", name, err)
    return SessionError(f"{name} cannot be opened: it is damaged, or not for this version of its runtime")


def _failed(err: Exception) -> SessionError:
    if _lacks_memory(err):
        return NoMemoryError("there is no memory left for a model: end what else runs; the model is whole")
    _LOG.debug("of a model that failed the runtime says: %s", err)
    return SessionError("a model failed: it does not take what it is given")


def _lacks_memory(err: Exception) -> bool:
    """Runtimes have no error of their own for it."""
    said = str(err)
    return isinstance(err, MemoryError) or "bad_alloc" in said or "Failed to allocate memory" in said
