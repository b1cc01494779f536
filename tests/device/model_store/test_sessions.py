"""Sessions answer in the network's order, and say in one line why they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from device.model_store import slots
from device.model_store.sessions import OnnxSession, SessionError
from device.settings import models_dir
from quantize.graphs.builder import GraphBuilder


@pytest.fixture
def network() -> onnx.ModelProto:
    """Twice the input, and its negative."""
    g = GraphBuilder("toy")
    x = g.input("x", ["n"])
    g.output(g.add("Add", x, x), "twice", ["n"])
    g.output(g.add("Neg", x), "negative", ["n"])
    return g.model()


def test_a_network_from_a_file_and_from_bytes_answers_alike(network: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(network, tmp_path / "toy.onnx")
    for given in (tmp_path / "toy.onnx", network.SerializeToString()):
        twice, negative = OnnxSession(given).run({"x": np.asarray([1.0, 2.0], np.float32)})
        np.testing.assert_array_equal(twice, [2.0, 4.0])
        np.testing.assert_array_equal(negative, [-1.0, -2.0])


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    for path in (tmp_path / "bad.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(SessionError, match="cannot be opened") as caught:
            OnnxSession(path)
        assert "\n" not in str(caught.value)


def test_a_wrong_input_is_a_session_error(network: onnx.ModelProto) -> None:
    session = OnnxSession(network.SerializeToString())
    for inputs in ({"y": np.zeros(2, np.float32)}, {"x": np.zeros(2, np.float64)}, {}):
        with pytest.raises(SessionError, match="a model failed"):
            session.run(inputs)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from device.model_store.sessions import NoMemoryError, OnnxSession
network = Path(sys.argv[1])
OnnxSession(network)  # the library is loaded, and the network is whole
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), size + (1 << 20)))
try:
    for _ in range(100):
        kept = [*globals().get("kept", ()), OnnxSession(network)]
except NoMemoryError as err:
    print(err)
"""


def test_a_model_for_which_there_is_no_memory_is_not_called_damaged() -> None:
    network = slots.active(models_dir()).path("words-encoder")
    ran = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(network)], capture_output=True, text=True, check=False
    )
    assert "no memory left" in ran.stdout, ran.stderr
    assert "models build" not in ran.stdout
