"""What is read for training, and that a run with new files reads only those."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy", reason="the training extra is not installed")

from quantize.train.speech import corpus

RATE_HZ = 16_000
COLUMNS = ("path", "label", "speaker", "system", "seconds", "text", "source", "licence")


def speech(folder: Path, names: list[str]) -> Path:
    """A data folder with one second of noise for each name."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        wave = 0.1 * np.random.default_rng(number).standard_normal(RATE_HZ)
        soundfile.write(folder / name, wave, RATE_HZ)
    with (folder / "manifest.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows({"path": n, "label": "bonafide", "system": "-"} for n in names)
    return folder


@pytest.fixture(autouse=True)
def _codecs() -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")


def test_a_corpus_that_grew_keeps_what_it_had_and_reads_what_is_new(tmp_path: Path) -> None:
    data, cache = speech(tmp_path / "data", ["a.wav", "b.wav"]), tmp_path / "cache"
    before = {i.path: i for i in corpus.load(data, None, cache, packaged=())}
    size = (data / "a.wav").stat().st_size
    speech(data, ["a.wav", "b.wav", "c.wav"])
    (data / "a.wav").write_bytes(bytes(size))  # no sound any more: it must not be read again
    after = {i.path: i for i in corpus.load(data, None, cache, packaged=())}
    assert set(after) == {"a.wav", "b.wav", "c.wav"}
    for path, item in before.items():
        np.testing.assert_array_equal(after[path].wave, item.wave)
        np.testing.assert_array_equal(after[path].coded, item.coded)


def test_a_file_that_changed_its_size_is_read_again(tmp_path: Path) -> None:
    data, cache = speech(tmp_path / "data", ["a.wav"]), tmp_path / "cache"
    (before,) = corpus.load(data, None, cache, packaged=())
    soundfile.write(data / "a.wav", 0.1 * np.sin(np.arange(2 * RATE_HZ) / 20.0), RATE_HZ)
    (after,) = corpus.load(data, None, cache, packaged=())
    assert len(after.wave) > len(before.wave)


def test_everything_is_brought_to_one_level(tmp_path: Path) -> None:
    data = speech(tmp_path / "data", ["a.wav", "b.wav"])
    soundfile.write(data / "b.wav", 0.001 * np.random.default_rng(9).standard_normal(RATE_HZ), RATE_HZ)
    levels = [i.wave.astype(float).std() for i in corpus.load(data, None, tmp_path / "cache", packaged=())]
    assert levels[0] == pytest.approx(levels[1], rel=0.02)
