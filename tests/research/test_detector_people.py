"""What people alone fit is fitted anew, and nothing else of the detector changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("pyroomacoustics", reason="the training extra is not installed")

from quantize.errors import QuantizeError
from quantize.networks.spoof import WEIGHTS
from quantize.train.fitting.norms import LEAST_PEOPLE
from quantize.train.update import detector_in
from research.detector.people import refit

RATE_HZ = 16_000


def talker(number: int) -> np.ndarray:
    """Some 4 s of a hum with a pitch that wanders, in bursts, over faint noise."""
    rng = np.random.default_rng(number)
    pitch_hz = rng.uniform(90, 220) * np.exp(0.1 * np.cumsum(rng.standard_normal(42)) / 6).repeat(1_600)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 40))
    bursts = np.convolve((rng.random(42) < 0.7).repeat(1_600), np.hanning(800) / 400, "same")
    return (0.1 * wave * bursts + 1e-3 * rng.standard_normal(len(wave))).astype(np.float32)


def speech(folder: Path, people: int) -> Path:
    """A manifest of so many people of a corpus, one of a page, and a fake."""
    rows = ["path\tlabel\tspeaker\tsystem"]
    files = [(f"an4/s{n}/a.flac", "bonafide", f"s{n}", "-") for n in range(people)]
    files += [("some_demo/a.flac", "bonafide", "", "-"), ("some_demo/b.flac", "spoof", "", "tool")]
    for n, (path, *about) in enumerate(files):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, 0.5 * talker(n), RATE_HZ)
        rows.append("\t".join([path, *about]))
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_people_give_the_card_new_norms_and_zeros_and_leave_networks_alone(tmp_path: Path) -> None:
    out = tmp_path / "weights"
    shutil.copytree(WEIGHTS, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refit(speech(tmp_path / "speech", LEAST_PEOPLE + 12), tmp_path / "work", out, packaged=())
    changed = {path.name for path in out.iterdir() if path.read_bytes() != before.get(path.name)}
    assert changed == {"spoof.json"}
    old, new = json.loads(before["spoof.json"]), json.loads((out / "spoof.json").read_bytes())
    assert {key for key in new if new[key] != old[key]} == {
        "version",
        "calibration",
        "null",
        "operating_points",
        "parity",
    }
    for kind in ("synthetic", "envelopes", "loudspeaker"):
        assert new["calibration"][kind]["scale"] == old["calibration"][kind]["scale"]
    llrs = [detector_in(out).llr(talker(n)) for n in range(5)]
    assert np.mean(np.array(llrs) > 0.0) > 0.5


def test_too_few_people_leave_the_card_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "weights"
    shutil.copytree(WEIGHTS, out)
    before = (out / "spoof.json").read_bytes()
    with pytest.raises(QuantizeError, match="people"):
        refit(speech(tmp_path / "speech", 20), tmp_path / "work", out, packaged=())
    assert (out / "spoof.json").read_bytes() == before
