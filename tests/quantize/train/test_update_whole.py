"""The whole of `quantize.train update` on a small corpus: from samples to a comparison and a bundle."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("pyroomacoustics", reason="the training extra is not installed")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.model_store.bundle import Bundle, Trust
from quantize.errors import QuantizeError
from quantize.release.build import build
from quantize.release.catalogue import RECIPES
from quantize.train.update import WORSE_FOR_PEOPLE, take, update

WEIGHTS = Path(__file__).parents[3] / "quantize" / "train" / "weights"
DETECTOR = ("spoof", "spoof-card", "spoof-envelopes")
PEOPLE = {"an4": 320, "libri": 40, "so762": 40}
SENTENCES = 60


def small_corpus(whole: Path, folder: Path) -> Path:
    """Some people of three corpora, with the noises and rooms of the whole."""
    rows = list(csv.DictReader((whole / "manifest.tsv").open(), delimiter="\t"))
    people = []
    for page, most in PEOPLE.items():
        people += [r for r in rows if r["path"].startswith(f"{page}/")][:most]
    folder.mkdir()
    for name in ("noise", "impulse_responses", *PEOPLE):
        (folder / name).symlink_to(whole / name)
    with (folder / "manifest.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(people)
    return folder


def spoken(folder: Path, system: str, voice: str) -> Path:
    """Sentences by espeak-ng, in a folder named for the attack."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    (folder / system).mkdir(parents=True)
    for number in range(SENTENCES):
        text = f"door {number} river {number * 7 % 100} amber falcon {number * 13 % 100}"
        out = str(folder / system / f"{number:02}.wav")
        speed = str(120 + number)
        subprocess.run(["espeak-ng", "-v", voice, "-s", speed, "-w", out, text], check=True, timeout=180)
    return folder


@pytest.mark.slow
def test_samples_of_an_attack_become_a_signed_bundle_unless_people_would_pay_for_it(
    tmp_path: Path, development_data: Path
) -> None:
    data, attacks = small_corpus(development_data, tmp_path / "data"), tmp_path / "attacks"
    take(spoken(tmp_path / "known", "espeak", "en-us"), attacks)
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    build(tmp_path / "current", recipes=[r for r in RECIPES if r.role in DETECTOR])
    new = spoken(tmp_path / "new", "klatt", "en-us+klatt2")
    bundle, key_file = tmp_path / "current", tmp_path / "key.pem"
    complaint = ""
    try:
        update(
            new, data, attacks, tmp_path / "work", tmp_path / "out",
            current=WEIGHTS, bundle=bundle, key=key_file, passes=1,
        )  # fmt: skip
    except QuantizeError as err:
        complaint = str(err)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    before, after = found["current"], found["candidate"]
    assert before["files"] == after["files"]
    assert set(after["accepted"]) == {"known attacks", "klatt"}
    assert after["accepted"]["klatt"] <= before["accepted"]["klatt"]
    may = after["people refused"] <= before["people refused"] + WORSE_FOR_PEOPLE
    assert may == (complaint == "") == (tmp_path / "out" / "bundle").exists()
    assert may or "refuses more people" in complaint
    if may:
        opened = Bundle.open(tmp_path / "out" / "bundle", Trust(key=key.public_key())).manifest
        assert opened.version == Bundle.open(tmp_path / "current").manifest.version + 1
        assert {entry.version for entry in opened.files} == {after["version"]}
