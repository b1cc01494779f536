"""A processor that computes otherwise is found out in seconds, and serves in an exact form or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from device.commands.installed.doctor import examine as doctor
from device.model_store import pick as picks
from device.model_store.answers import ROLE, Answers
from device.model_store.bundle import MANIFEST_NAME, Bundle
from device.model_store.float_products import in_float
from device.model_store.manifest import BundleError, Manifest
from device.model_store.pick import Pick
from device.model_store.processor import processor_class, saturates
from device.model_store.sessions import OnnxSession, Runtime
from device.models import self_test
from device.models.self_test import SelfTestError, chosen, ensured, run
from device.settings import Settings
from device.unit.assembly import open_judge
from quantize.cli import models as command
from quantize.tflite.lower import lower
from quantize.upstream.fetch import sha256_of

PACKAGE = "sudo apt-get install pocketsphinx-testdata"


@pytest.fixture(scope="module")
def given(models: Path) -> Bundle:
    return Bundle.open(models)


@pytest.fixture(scope="module")
def answers(given: Bundle) -> Answers:
    return Answers.from_bytes(given.path(ROLE).read_bytes())


def with_file(given: Bundle, folder: Path, role: str, data: bytes) -> Bundle:
    """The bundle `given` in `folder`, where `role` has another file: well formed, and wrong."""
    folder.mkdir()
    for one in given.manifest.files:
        shutil.copyfile(given.directory / one.name, folder / one.name)
    old = given.manifest.entry(role)
    (folder / old.name).write_bytes(data)
    made = replace(old, sha256=sha256_of(folder / old.name), size_bytes=len(data))
    files = tuple(made if one.role == role else one for one in given.manifest.files)
    (folder / MANIFEST_NAME).write_bytes(replace(given.manifest, files=files).to_bytes())
    return Bundle.open(folder)


def picked(bundle: Bundle, **runtimes: Runtime) -> Pick:
    return Pick(picks.machine(), picks.identity(bundle), runtimes)


def astray(answers: Answers) -> bytes:
    """Answers that no form can give."""
    first, *others = answers.live
    wrong = replace(first, llrs={**first.llrs, "llr": first.llrs["llr"] + 3.0})
    return replace(answers, live=(wrong, *others)).to_bytes()


def nobody(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


def test_the_models_answer_on_this_processor_as_they_did_at_the_release(given: Bundle) -> None:
    findings = run(given, Pick())
    assert [(one.check, one.passed) for one in findings] == [("words", True), ("voice", True), ("live", True)]
    assert all(one.answers >= 8 for one in findings)
    assert set(chosen(findings)) == {"words", "speaker", "spoof"}


def test_a_form_that_strays_here_is_replaced_by_an_exact_one_and_the_unit_says_so(
    given: Bundle, tmp_path: Path
) -> None:
    network = onnx.load(given.path("spoof"))
    for tensor in network.graph.initializer:
        if tensor.name == "out.b":  # as kernels do that lose the top of their sums
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 2.0, tensor.name))
    bundle = with_file(given, tmp_path / "models", "spoof-tflite", lower(network))
    told: list[str] = []
    pick = picked(bundle, spoof=Runtime.TFLITE)
    forms = ensured(bundle, pick, tmp_path / "memory.json", told.append)
    assert forms["spoof"] is Runtime.ONNX
    assert told == ["self-test: live strays in tflite; onnxruntime serves instead"]
    trusted = self_test.trusting(bundle, told.append)
    assert not trusted("spoof", Runtime.TFLITE)
    assert trusted("spoof", Runtime.FLOAT)
    assert told[-1].startswith("spoof strays in tflite on this machine and is left out (LLR differs by ")


def test_where_every_form_strays_the_unit_does_not_serve_and_says_why_in_one_line(
    given: Bundle, answers: Answers, tmp_path: Path
) -> None:
    bundle = with_file(given, tmp_path / "models", ROLE, astray(answers))
    with pytest.raises(SelfTestError) as caught, open_judge(bundle.directory, Settings()):
        pass
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("self-test: live cannot be trusted on this machine (LLR differs by ")
    assert "run `ostiary models build`" in said
    told = CliRunner().invoke(command, ["self-test", "--dir", str(bundle.directory), "--json"])
    assert told.exit_code == 1
    document = json.loads(told.output)
    assert document["verdict"] == "stray"
    assert document["why"] == said
    tried = [one["form"] for one in document["checks"] if one["check"] == "live"]
    assert tried == ["onnxruntime", "onnxruntime-float"]


def test_a_program_is_told_class_form_difference_and_verdict(models: Path, given: Bundle) -> None:
    told = CliRunner().invoke(command, ["self-test", "--dir", str(models), "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    assert document["verdict"] == "passed"
    assert document["processor"] == processor_class()
    assert document["bundle"] == picks.identity(given)
    assert {one["check"] for one in document["checks"]} == {"words", "voice", "live"}
    for one in document["checks"]:
        assert 0.0 <= one["largest_llr_difference"] <= one["tolerance"]
        assert one["form"] in set(Runtime)


def test_a_pass_is_remembered_until_machine_bundle_or_choice_change(given: Bundle, tmp_path: Path) -> None:
    memory, nowhere = tmp_path / "own" / "self-test.json", tmp_path / "no recordings"
    forms = ensured(given, Pick(), memory, nobody)
    assert ensured(given, Pick(), memory, nobody, nowhere) == forms
    with pytest.raises(SelfTestError, match=PACKAGE):  # another choice: asked anew
        ensured(given, picked(given, spoof=Runtime.FLOAT), memory, nobody, nowhere)
    for change in ({"machine": "0" * 64}, {"bundle": "0" * 64}, {"processor": "abacus"}):
        document = json.loads(memory.read_text()) | change
        (tmp_path / "changed.json").write_text(json.dumps(document))
        with pytest.raises(SelfTestError, match=PACKAGE):
            ensured(given, Pick(), tmp_path / "changed.json", nobody, nowhere)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"forms": {"words": "abacus"}}', b" " * 100_000])
def test_a_damaged_memory_means_asking_again(given: Bundle, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "self-test.json").write_bytes(content)
    with pytest.raises(SelfTestError, match=PACKAGE):
        ensured(given, Pick(), tmp_path / "self-test.json", nobody, tmp_path / "no recordings")


def test_a_memory_that_cannot_be_written_costs_only_time(given: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"where a folder should be")
    told: list[str] = []
    assert ensured(given, Pick(), tmp_path / "file" / "self-test.json", told.append)
    assert len(told) == 1
    assert "it runs at every start" in told[0]


def test_recordings_that_are_missing_or_others_are_named_with_their_package(
    answers: Answers, tmp_path: Path
) -> None:
    with pytest.raises(SelfTestError, match=PACKAGE):
        self_test.recordings_of(answers.recordings, tmp_path)
    name = next(iter(answers.recordings))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(SelfTestError, match=f"{name} is not the self-test's recording"):
        self_test.recordings_of(answers.recordings, tmp_path)


def test_answers_of_other_files_are_refused(given: Bundle, answers: Answers, tmp_path: Path) -> None:
    other = replace(answers, files={**answers.files, "speaker": "0" * 64})
    bundle = with_file(given, tmp_path / "models", ROLE, other.to_bytes())
    with pytest.raises(SelfTestError, match="not about its speaker"):
        run(bundle, Pick())


def test_a_bundle_without_answers_is_refused_and_says_what_to_build(given: Bundle, tmp_path: Path) -> None:
    for one in given.manifest.files:
        shutil.copyfile(given.directory / one.name, tmp_path / one.name)
    files = tuple(one for one in given.manifest.files if one.role != ROLE)
    (tmp_path / MANIFEST_NAME).write_bytes(Manifest(1, "0.1.0", files).to_bytes())
    with pytest.raises(BundleError, match="ostiary models build --only self-test"):
        run(Bundle.open(tmp_path), Pick())


def test_answers_are_read_as_they_were_written(answers: Answers) -> None:
    assert Answers.from_bytes(answers.to_bytes()) == answers


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.__setitem__(key, value)


@pytest.mark.parametrize(
    "spoil",
    [
        _set("format", 9), _set("words", []), _set("voice", None), _set("live", [{}]), _set("files", 1),
        _set("tolerance", {"words": 1.0}), _set("tolerance", {"words": 1.0, "voice": 0.0, "live": 1.0}),
        _set("words", [{"recording": "../../etc/passwd", "phrase": "x", "llr": 1.0}]),
        _set("words", [{"recording": "/etc/passwd", "phrase": "x", "llr": 1.0}]),
        _set("words", [{"recording": "a.wav", "phrase": "x", "llr": "NaN"}]),
    ],
)  # fmt: skip
def test_answers_that_are_damaged_are_refused(answers: Answers, spoil: Callable[[Any], None]) -> None:
    document = json.loads(answers.to_bytes())
    spoil(document)
    with pytest.raises(BundleError):
        Answers.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b" " * 100_000])
def test_what_is_no_list_of_answers_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="self-test is damaged"):
        Answers.from_bytes(data)


def test_float_products_give_the_sums_that_integers_give() -> None:
    """Also where sums of eight bits need more than 16."""
    weights = np.full((64, 3), 127, np.int8)
    weights[:, 1] = -128
    zero = numpy_helper.from_array(np.array(128, np.uint8), "zero")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["sums"]),
         helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT)],
        "toy",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["rows", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(weights, "b"), zero],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    network = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    assert b"MatMulInteger" not in in_float(network)
    rows = np.full((2, 64), 255, np.uint8)
    rows[1] = 0
    found = OnnxSession(network, float_products=True).run({"a": rows})[0]
    exact = (rows.astype(np.int64) - 128) @ weights.astype(np.int64)
    np.testing.assert_array_equal(found, exact)


def test_the_class_of_processor_says_whether_sums_lose_their_top() -> None:
    if processor_class().startswith("x86"):
        assert saturates() != processor_class().endswith("vnni")
    else:
        assert not saturates()


def test_doctor_asks_the_models_and_tells_how_far_they_are() -> None:
    (found,) = [finding for finding in doctor() if finding.what == "self-test"]
    assert found.well, found.detail
    assert "LLRs differ by" in found.detail
