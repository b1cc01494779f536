from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from device.audio import AudioSettings
from device.errors import DeviceError
from quantize.bench.cli import bench
from quantize.bench.measure import Spread
from quantize.bench.peers import BOARDS, CONTENDERS, REQUIREMENTS, Files, Row, ctranslate2_folder, race
from quantize.bench.peers_show import document, plot, show, write
from quantize.bench.speech import packaged_sentences
from tests.speech import Reading


@pytest.fixture
def found() -> dict[str, object]:
    rows = []
    for place, contender in enumerate(CONTENDERS):
        time_ms = 100.0 + 50 * place
        rows.append(
            Row(contender.key, contender.task, contender.label, Spread(time_ms, time_ms + 9, time_ms + 20),
                200.0 + place, 10_000_000, time_ms / 100, 1.5, 2.0, "heard")
        )  # fmt: skip
    return document(rows, 4.0, 2, 5)


def test_every_contender_is_compared_with_ours_for_the_same_task() -> None:
    tasks = {contender.key: contender.task for contender in CONTENDERS}
    for contender in CONTENDERS:
        assert tasks[contender.ours] == contender.task
        assert contender.ours.startswith("ours-")


def test_a_prediction_is_a_range_of_ours_and_names_its_source(found: dict[str, object]) -> None:
    predictions = found["predictions"]
    assert isinstance(predictions, list)
    ours_ms = 100.0 + 50 * [c.key for c in CONTENDERS].index("ours-judge")
    for board, stated in zip(BOARDS, predictions, strict=True):
        assert stated["p50_ms"] == [pytest.approx(ours_ms * board.low), pytest.approx(ours_ms * board.high)]
        assert stated["source"]


def test_people_see_ratios_and_that_a_prediction_was_not_measured(found: dict[str, object]) -> None:
    console = Console(record=True, width=160)
    show(found, console)
    text = console.export_text()
    assert "Resemblyzer, torch" in text
    assert "Not measured" in text


def test_no_figure_loses_its_end_in_a_narrow_terminal(found: dict[str, object]) -> None:
    console = Console(record=True, width=72)
    show(found, console)
    table = console.export_text().split("Predicted")[0]
    assert "…" not in table
    assert all(f" {200 + place} " in table for place in range(len(CONTENDERS)))


def test_the_plot_and_the_figures_are_written_where_asked(found: dict[str, object], tmp_path: Path) -> None:
    write(found, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "peers.json").read_text()) == json.loads(json.dumps(found))
    assert plot(found) == (tmp_path / "new" / "peers.svg").read_text()
    assert "whisper.cpp defaults" in plot(found)


def test_a_contender_that_fails_says_why_in_one_line(tmp_path: Path, reader: list[Reading]) -> None:
    sentences = packaged_sentences(3.0, AudioSettings(), reader[0].path.parent)[:1]
    files = Files(*[tmp_path] * len(fields(Files)))
    with pytest.raises(DeviceError, match="ours: CAM") as caught:
        race(files, sentences, 1, 1, lambda: None)
    assert "manifest.json is missing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_out_without_peers_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--peers" in result.output


def test_every_peer_is_pinned_and_none_is_ours() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert any(line.startswith("torch==") for line in lines)
    assert all("==" in line or line == "setuptools<81" for line in lines)


def test_the_whisper_vocabulary_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    tokens = {"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"content": "<|endoftext|>", "id": 2}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    folder = ctranslate2_folder(tmp_path / "made", tmp_path / "model.bin", tmp_path / "tokenizer.json")
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    assert vocabulary[:4] == ["a", "b", "<|endoftext|>", "<|0.00|>"]
    assert vocabulary[-1] == "<|30.00|>"
    assert json.loads((folder / "config.json").read_text())["suppress_ids_begin"] == [220, 2]
