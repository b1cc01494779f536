"""The faster runtime is remembered for this machine and this bundle only, and never costs a decision."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from device.model_store import pick, sessions, slots
from device.model_store.bundle import Bundle
from device.model_store.calibration import Calibration
from device.model_store.manifest import BundleError, Manifest
from device.model_store.pick import Pick, Timing
from device.model_store.sessions import (
    ONNX_FORMS,
    Array,
    OnnxSession,
    Runtime,
    SessionError,
    TfliteSession,
)
from device.models.race import faster, race
from device.settings import kept_in, models_dir
from quantize.graphs import whisper_ggml
from quantize.graphs.builder import GraphBuilder
from quantize.recipe import ports
from quantize.tflite.lower import lower
from quantize.upstream.fetch import fetch
from tests.device.model_store.bundles import entry
from tests.runtimes import INSTALLED_TFLITE

RNG = np.random.default_rng(2)
MEASURED = {"spoof": {"tflite/1": Timing(1.5, 1.25, 2.0, 1.5)}}


def network(gain: float = 2.0) -> bytes:
    """Mean over time of twenty channels, times `gain`."""
    g = GraphBuilder("toy")
    x = g.input("features", ["batch", 20, "frames"])
    mean = g.add("ReduceMean", x, axes=[2], keepdims=0)
    g.output(g.add("Mul", mean, g.const("gain", np.float32(gain).reshape(1, 1))), "y", ["batch", 20])
    model: bytes = g.model().SerializeToString()
    return model


def with_variant(folder: Path, variant_of: float = 2.0, stated: bool = True) -> Bundle:
    """A bundle whose spoof role has a TFLite variant, made from a network with `variant_of` for a gain."""
    exact = network()
    variant = lower(onnx.load_model_from_string(network(variant_of)))
    made = entry("spoof", exact)
    inputs = ports(onnx.load_model_from_string(exact).graph.input)
    source = {pick.VARIANT_SOURCE: made.sha256 if stated else "0" * 64}
    other = replace(entry("spoof-tflite", variant), source=source)
    folder.mkdir()
    (folder / "spoof.bin").write_bytes(exact)
    (folder / "spoof-tflite.bin").write_bytes(variant)
    manifest = Manifest(1, "0.1.0", (replace(made, inputs=inputs), other))
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return Bundle.open(folder)


def picked(on: Bundle, **changes: object) -> Pick:
    known = Pick(pick.machine(), pick.identity(on), {"spoof": Runtime.TFLITE}, MEASURED)
    return replace(known, **changes)  # type: ignore[arg-type]


def noise(frames: int) -> dict[str, Array]:
    return {"features": RNG.standard_normal((1, 20, frames)).astype(np.float32)}


@pytest.mark.slow
def test_every_words_model_that_was_built_is_timed_and_only_a_form_of_the_usual_one_is_picked(
    models: Path, tmp_path: Path
) -> None:
    given = Bundle.open(models)
    here = tmp_path / "models"
    here.mkdir()
    entries = [given.manifest.entry(role) for role in ("words", "words-encoder")]
    for one in entries:
        shutil.copyfile(given.path(one.role), here / one.name)
    alone = Manifest(1, "0.1.0", tuple(entries))
    (here / "manifest.json").write_bytes(alone.to_bytes())
    assert set(race(Bundle.open(here), rounds=1).timings["words"]) == {"onnxruntime/2", "onnxruntime-float/2"}
    made = here / "words-ggml.bin"
    whisper_ggml.build(fetch("whisper-tiny-en"), fetch("whisper-tiny-en-tokenizer"), made, weights="q5_1")
    other = replace(
        entry("words-ggml-q5-1", made.read_bytes()), name=made.name, calibration=Calibration(1.0, 0.0)
    )
    (here / "manifest.json").write_bytes(Manifest(1, "0.1.0", (*entries, other)).to_bytes())
    found = race(Bundle.open(here), rounds=4)  # so many that a form far behind is left out of the last
    assert set(found.timings["words"]) == {"onnxruntime/2", "onnxruntime-float/2", "whisper.cpp-q5_1/2"}
    assert all(timing.cpu_ms > 0 for timing in found.timings["words"].values())
    assert found.runtime("words") in ONNX_FORMS
    only = race(Bundle.open(here), rounds=2, trusted=lambda role, form: form is Runtime.ONNX)
    assert only.runtime("words") is Runtime.ONNX
    assert "onnxruntime-float/2" not in only.timings["words"]
    assert Pick.from_bytes(found.to_bytes()) == found


def test_both_runtimes_answer_alike_at_changing_lengths(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models")
    served = [pick.open_role(bundle, "spoof", 1, runtime) for runtime in Runtime]
    assert [type(session) for session in served] == [OnnxSession] * 2 + [TfliteSession] * 2
    for frames in (9, 30, 9, 200):
        given = noise(frames)
        answers = [session.run(given)[0] for session in served]
        for answer in answers[1:]:
            np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("package", INSTALLED_TFLITE)
def test_either_package_of_the_interpreter_serves(tmp_path: Path, package: str) -> None:
    bundle = with_variant(tmp_path / "models")
    given = noise(33)
    exact = OnnxSession(bundle.path("spoof")).run(given)[0]
    for xnnpack in (False, True):
        session = TfliteSession(pick.tflite_variant(bundle, "spoof"), 1, xnnpack, (package,))
        np.testing.assert_allclose(session.run(given)[0], exact, rtol=1e-5, atol=1e-6)


def test_opening_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TfliteSession(pick.tflite_variant(with_variant(tmp_path / "models"), "spoof"), xnnpack=True)
    os.write(2, b"and stderr works again")
    assert capfd.readouterr().err == "and stderr works again"


def test_what_was_picked_comes_back_and_nothing_picked_means_onnx(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models")
    assert pick.read(bundle.directory, bundle).runtime("spoof") is Runtime.ONNX
    pick.write(bundle.directory, picked(bundle))
    found = pick.read(bundle.directory, bundle)
    assert found.runtime("spoof") is Runtime.TFLITE
    assert found.runtime("speaker") is Runtime.ONNX
    assert found.timings == MEASURED


@pytest.mark.parametrize("change", [{"machine": "another"}, {"bundle": "another"}])
def test_a_pick_for_another_machine_or_bundle_is_void(tmp_path: Path, change: dict[str, object]) -> None:
    bundle = with_variant(tmp_path / "models")
    pick.write(bundle.directory, picked(bundle, **change))
    assert pick.read(bundle.directory, bundle) == Pick()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"machine": 1}', b"\xff" * 9, b" " * 100_000, b'{"runtimes": {"spoof": "cloud"}}'],
)
def test_a_damaged_pick_is_told_and_costs_only_speed(tmp_path: Path, content: bytes) -> None:
    bundle = with_variant(tmp_path / "models")
    (bundle.directory / pick.PICK_NAME).write_bytes(content)
    with pytest.raises(BundleError, match=r"pick\.json"):
        pick.read(bundle.directory, bundle)
    told: list[str] = []
    assert pick.remembered(bundle.directory, bundle, told.append) == Pick()
    assert len(told) == 1


def test_without_a_tflite_runtime_onnx_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = with_variant(tmp_path / "models")
    # None in sys.modules is how Python is told that a package cannot be imported.
    for package in sessions.TFLITE_PACKAGES:
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    sessions.tflite_interpreter.cache_clear()
    told: list[str] = []
    try:
        session = pick.open_role(bundle, "spoof", 1, Runtime.TFLITE, told.append)
    finally:
        sessions.tflite_interpreter.cache_clear()
    assert isinstance(session, OnnxSession)
    assert told == ["models: no TFLite runtime is installed; ONNX Runtime serves; spoof runs in ONNX Runtime"]


def test_a_twin_of_another_network_is_not_used(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models", stated=False)
    with pytest.raises(BundleError, match="not made from its spoof"):
        pick.tflite_variant(bundle, "spoof")
    assert isinstance(pick.open_role(bundle, "spoof", 1, Runtime.TFLITE), OnnxSession)


def test_a_race_times_every_runtime_and_names_one(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models")
    found = race(bundle, rounds=3)
    lanes = {f"{runtime}/{threads}" for runtime in Runtime for threads in (1, 2)}
    assert set(found.timings["spoof"]) == lanes
    one_core = {runtime: found.timings["spoof"][f"{runtime}/1"].cpu_ms for runtime in Runtime}
    assert found.runtime("spoof") is faster(one_core)


def test_a_second_runtime_is_chosen_where_it_saves_more_than_its_memory_is_worth() -> None:
    slow = {Runtime.ONNX: 40.0, Runtime.FLOAT: 60.0}
    assert faster({**slow, Runtime.XNNPACK: 35.0}) is Runtime.ONNX
    assert faster({**slow, Runtime.XNNPACK: 25.0}) is Runtime.XNNPACK
    assert faster({Runtime.ONNX: 40.0, Runtime.FLOAT: 39.0}) is Runtime.FLOAT


def test_a_choice_for_models_that_nobody_may_write_to_lies_in_the_units_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = with_variant(tmp_path / "installed")
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("OSTIARY_MODELS_DIR", raising=False)
    models = models_dir(installed.directory)
    own = kept_in(models, installed.directory)
    assert (models, own) == (installed.directory, tmp_path / "state" / "models")
    before = sorted(installed.directory.iterdir())
    own.mkdir(parents=True)
    pick.write(own, picked(installed))
    assert pick.read(own, installed) == picked(installed)
    assert models_dir(installed.directory) == installed.directory, "a choice is no bundle"
    assert sorted(installed.directory.iterdir()) == before


def test_a_runtime_that_answers_differently_here_is_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    found = race(with_variant(tmp_path / "models", variant_of=3.0), told.append, rounds=2)
    assert found.runtime("spoof") in ONNX_FORMS
    assert {name.split("/")[0] for name in found.timings["spoof"]} == {"onnxruntime", "onnxruntime-float"}
    assert len(told) == 2


@pytest.mark.slow
def test_killed_while_picking_the_unit_keeps_what_it_had(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models")
    models = bundle.directory
    pick.write(models, picked(bundle))
    before = (models / pick.PICK_NAME).read_bytes()
    command = [sys.executable, "-m", "device.cli", "models", "pick", "--dir", str(models)]
    for wait_s in (0.2, 0.5, 0.8, 1.1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = (models / pick.PICK_NAME).read_bytes()
        if content != before:
            assert json.loads(content)["machine"] == pick.machine()
        active = slots.active(models)
        runtime = pick.read(models, active).runtime("spoof")
        assert pick.open_role(active, "spoof", 1, runtime).run(noise(30))[0].shape == (1, 20)


def test_a_tflite_session_says_in_one_line_why_it_does_not_answer(tmp_path: Path) -> None:
    bundle = with_variant(tmp_path / "models")
    session = TfliteSession(pick.tflite_variant(bundle, "spoof"))
    good = noise(12)
    for bad in ({"y": good["features"]}, {}, {"features": good["features"].astype(np.float64)},
                {"features": np.zeros((1, 19, 12), np.float32)}):  # fmt: skip
        with pytest.raises(SessionError, match="a model failed") as caught:
            session.run(bad)
        assert "\n" not in str(caught.value)
    assert session.run(good)[0].shape == (1, 20)
    for content in (b"", b"not a network"):
        with pytest.raises(SessionError, match="cannot be opened"):
            TfliteSession(content)
