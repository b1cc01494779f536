"""From samples of a new attack to a signed bundle: what is taken in, what is refused, what comes out."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy", reason="the training extra is not installed")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device.model_store.bundle import MANIFEST_NAME, Bundle, Trust
from device.model_store.pick import Pick
from device.models.self_test import chosen, run
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.release.build import build
from quantize.release.catalogue import RECIPES
from quantize.train.__main__ import main
from quantize.train.speech.corpus import Item
from quantize.train.update import LEAST_SAMPLES, compare, ready, replace_detector, take

DETECTOR = ("spoof", "spoof-card", "spoof-envelopes")
WEIGHTS = Path(__file__).parents[3] / "quantize" / "train" / "weights"
RATE_HZ = 16_000


def samples(folder: Path, system: str = "newtts", count: int = LEAST_SAMPLES, rate_hz: int = 22_050) -> Path:
    rng = np.random.default_rng(0)
    (folder / system).mkdir(parents=True)
    for number in range(count):
        wave = 0.1 * rng.standard_normal(rate_hz).astype(np.float32)
        soundfile.write(folder / system / f"{number}.wav", wave, rate_hz)
    return folder


def listed(attacks: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((attacks / "attacks.tsv").open(), delimiter="\t"))


def test_samples_enter_the_attacks_at_the_rate_of_the_others_and_only_once(tmp_path: Path) -> None:
    given, attacks = samples(tmp_path / "given"), tmp_path / "attacks"
    assert take(given, attacks) == ["newtts"]
    take(given, attacks)
    rows = listed(attacks)
    assert len(rows) == len({r["path"] for r in rows}) == LEAST_SAMPLES
    assert {r["system"] for r in rows} == {"newtts"}
    assert soundfile.info(attacks / rows[0]["path"]).samplerate == RATE_HZ


def test_attacks_that_are_there_stay(tmp_path: Path) -> None:
    attacks = tmp_path / "attacks"
    take(samples(tmp_path / "first", "newtts"), attacks)
    take(samples(tmp_path / "second", "other-tts"), attacks)
    assert {r["system"] for r in listed(attacks)} == {"newtts", "other-tts"}


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="at least"):
        take(samples(tmp_path / "given", count=3), tmp_path / "attacks")


def test_samples_outside_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(QuantizeError, match="folder"):
        take(tmp_path / "given", tmp_path / "attacks")


def test_a_name_that_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="no name"):
        take(samples(tmp_path / "given", "New TTS"), tmp_path / "attacks")


def test_a_file_that_is_no_sound_is_named(tmp_path: Path) -> None:
    given = samples(tmp_path / "given")
    (given / "newtts" / "0.wav").write_bytes(b"RIFF no more")
    with pytest.raises(QuantizeError, match=r"0\.wav cannot be read"):
        take(given, tmp_path / "attacks")
    assert not (tmp_path / "attacks" / "attacks.tsv").exists()


def held(count: int, spoof: bool, system: str) -> list[Item]:
    """Items of the part that no network is trained on."""
    wave = (2000 * np.random.default_rng(int(spoof)).standard_normal(RATE_HZ)).astype(np.int16)
    page = "made" if spoof else "libri"
    drawn = (Item(f"{system}/{n}", spoof, system, page, "", "", wave, wave) for n in itertools.count())
    return list(itertools.islice((one for one in drawn if one.part == "calibration"), count))


def test_a_detector_compared_with_itself_is_the_same() -> None:
    items = [*held(5, False, "-"), *held(5, True, "newtts"), *held(5, True, "espeak")]
    found = compare(WEIGHTS, WEIGHTS, items, ["newtts"])
    assert found["current"] == found["candidate"]
    assert found["current"]["files"] == {"people": 5, "known attacks": 5, "newtts": 5}


def test_the_bundle_holds_the_new_detector_under_the_next_version_and_is_signed(tmp_path: Path) -> None:
    detector = [r for r in RECIPES if r.role in DETECTOR]
    build(tmp_path / "current", recipes=detector)
    weights = tmp_path / "weights"
    weights.mkdir()
    card = json.loads((WEIGHTS / "spoof.json").read_bytes()) | {"version": "spoof-candidate"}
    (weights / card["file"]).write_bytes((WEIGHTS / card["file"]).read_bytes())
    (weights / "spoof.json").write_text(json.dumps(card))
    shutil.copyfile(WEIGHTS / "spoof-envelopes.npz", weights / "spoof-envelopes.npz")
    key = Ed25519PrivateKey.generate()
    replace_detector(tmp_path / "current", weights, tmp_path / "next", key)
    before = Bundle.open(tmp_path / "current").manifest
    after = Bundle.open(tmp_path / "next", Trust(key=key.public_key())).manifest
    assert after.version == before.version + 1
    assert {e.version for e in after.files} == {"spoof-candidate"}


def test_a_unit_trusts_the_bundle_of_a_new_detector(tmp_path: Path) -> None:
    models = models_dir()
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    card = json.loads((WEIGHTS / "spoof.json").read_bytes())
    card["version"] = "spoof-candidate"
    card["calibration"]["synthetic"]["offset"] += 2.0  # it answers otherwise
    (weights / "spoof.json").write_text(json.dumps(card))
    key = Ed25519PrivateKey.generate()
    current = tmp_path / "current"
    current.mkdir()
    for entry in Bundle.open(models).manifest.files:
        shutil.copyfile(models / entry.name, current / entry.name)
    shutil.copyfile(models / MANIFEST_NAME, current / MANIFEST_NAME)
    replace_detector(current, weights, tmp_path / "next", key)
    made = Bundle.open(tmp_path / "next", Trust(key=key.public_key()))
    assert made.version("spoof") == "spoof-candidate"
    assert set(chosen(run(made, Pick()))) == {"words", "speaker", "spoof"}


def test_a_bundle_that_is_there_stops_the_update_before_its_long_work(tmp_path: Path) -> None:
    build(tmp_path / "current", recipes=[r for r in RECIPES if r.role in DETECTOR])
    ready(tmp_path / "current", tmp_path / "out")
    (tmp_path / "out" / "bundle").mkdir(parents=True)
    with pytest.raises(QuantizeError, match="there already"):
        ready(tmp_path / "current", tmp_path / "out")


def test_a_bundle_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    with pytest.raises(QuantizeError, match="there already"):
        replace_detector(tmp_path, WEIGHTS, tmp_path / "next", Ed25519PrivateKey.generate())


@pytest.mark.parametrize("missing", ["bundle", "samples"])
def test_what_is_missing_is_told_in_one_line(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "bundle", recipes=[r for r in RECIPES if r.role in DETECTOR])
    samples(tmp_path / "samples")
    (tmp_path / "key").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    shutil.rmtree(tmp_path / missing)
    names = ("samples", "data", "attacks", "work", "bundle", "key", "out")
    told = [part for name in names for part in (f"--{name}", str(tmp_path / name))]
    monkeypatch.setattr("sys.argv", ["train", "update", *told])
    assert main() == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(tmp_path / missing) in said
