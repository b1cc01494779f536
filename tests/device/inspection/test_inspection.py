"""Evidence of a recording: the same for the same file, signed, and honest about what it cannot say."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.audio import AudioSettings, load_utterance
from device.errors import DeviceError
from device.evidence.judge import Judge
from device.inspection import page
from device.inspection.findings import Checks, Findings, examine, peaks, stretches
from device.inspection.scale import in_words
from device.inspection.statement import checked, findings_bytes, signed, statement
from device.liveness.joins import shipped_network
from device.liveness.weights import shipped
from quantize.evaluate.recordings.splicing import ENERGY, Source, draw
from sync.keys import FileSigner
from tests.device.commands.conftest import Ostiary, ostiary  # noqa: F401
from tests.speech import Reading


def wave(reading: Reading) -> np.ndarray:
    return load_utterance(reading.path, AudioSettings()).wave()


@pytest.fixture
def checks(judge: Judge) -> Checks:
    return Checks(judge.speaker, judge.spoof, shipped_network(), shipped())


def found(checks: Checks, sound: np.ndarray, **more: object) -> Findings:
    return examine(sound, checks, name="call.wav", sha256="ab" * 32, **more)  # type: ignore[arg-type]


def test_the_same_recording_gives_the_same_bytes(checks: Checks, reader: list[Reading]) -> None:
    template = np.eye(192, dtype=np.float32)[0]
    first, second = (found(checks, wave(reader[4]), person="4711", template=template) for _ in range(2))
    assert findings_bytes(first) == findings_bytes(second)
    assert page.render(first) == page.render(second)
    assert statement(first, "unit-1") == statement(second, "unit-1")


def test_the_page_fetches_nothing_runs_nothing_and_shows_no_name_as_markup(
    checks: Checks, reader: list[Reading]
) -> None:
    odd = examine(wave(reader[4]), checks, name="<script>x", sha256="ab" * 32, person="<b>")
    html = page.render(odd)
    assert "<script" not in html
    assert "&lt;script&gt;x" in html
    assert "<b>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<svg") >= 3


def test_where_pieces_were_joined_is_marked(reader: list[Reading]) -> None:
    sources = [Source(str(one.path), wave(one)) for one in reader]
    whole = [len(peaks(shipped_network()(one.wave).frames)) for one in sources]
    assert sum(whole) <= 2, "in 25 s"
    hits = total = 0
    for seed in range(6):
        splice = draw(sources, ENERGY, "words", np.random.default_rng(seed))
        assert splice is not None
        marks = [at for at, _ in peaks(shipped_network()(splice.wave).frames)]
        hits += sum(any(abs(at - mark) <= 0.25 for mark in marks) for at in splice.joins_s)
        total += len(splice.joins_s)
    assert hits >= 0.5 * total


def test_peaks_are_apart_and_above_the_bar() -> None:
    frames = np.full(100, -5.0, np.float32)
    frames[[20, 22, 60, 99]] = [3.0, 4.0, 1.0, 5.0]
    assert peaks(frames, 2.0) == [(pytest.approx(0.45), 4.0), (pytest.approx(1.99), 5.0)]


def test_quiet_stretches_are_not_judged() -> None:
    loud = np.random.default_rng(1).standard_normal(8 * 16_000).astype(np.float32) * 0.1
    loud[5 * 16_000 :] *= 1e-4
    assert [(a // 16_000, b // 16_000) for a, b in stretches(loud)] == [(0, 4), (2, 6), (4, 8)]
    assert stretches(loud[:8_000]) == [(0, 8_000)]


def test_without_a_person_or_enough_speech_it_says_so(checks: Checks, reader: list[Reading]) -> None:
    short = found(checks, wave(reader[4])[:24_000])
    assert short.voice is None
    assert any("no person was named" in one for one in short.unsaid)
    assert any("1.5 s are less" in one for one in short.unsaid)
    unknown = found(checks, wave(reader[4]), person="4711")
    assert any("no voiceprint" in one for one in unknown.unsaid)
    voice = found(
        checks, wave(reader[4])[: 5 * 16_000], person="x", template=np.eye(192, dtype=np.float32)[0]
    ).voice
    assert voice is not None
    assert voice.low is None


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "no support either way"),
        (5.0, "weak support for A over B (about 5.0 times"),
        (1 / 50, "moderate support for B over A (about 50 times"),
        (500.0, "moderately strong support for A"),
        (5_000.0, "strong support for A over B (about 5,000 times"),
        (150_000.0, "very strong support for A over B (about 150,000 times"),
    ],
)
def test_ratios_in_words_follow_the_scale_of_the_guideline(ratio: float, words: str) -> None:
    assert in_words(math.log(ratio), "A", "B").startswith(words)


def test_a_statement_is_about_one_file_and_one_set_of_findings(
    tmp_path: Path, checks: Checks, reader: list[Reading]
) -> None:
    content = Path(reader[4].path).read_bytes()
    told = examine(wave(reader[4]), checks, name="a.wav", sha256=hashlib.sha256(content).hexdigest())
    signer, stranger = FileSigner.create(tmp_path / "a.pem"), FileSigner.create(tmp_path / "b.pem")
    message, findings = signed(told, "unit-1", signer), findings_bytes(told)
    assert len(message) < 1_024
    assert checked(message, signer.public_key(), content, findings) == "unit-1"
    for args in (
        (message, stranger.public_key(), content, findings),
        (message, signer.public_key(), content + b"x", findings),
        (message, signer.public_key(), content, findings.replace(b"a.wav", b"b.wav")),
        (message[:-1] + bytes([message[-1] ^ 1]), signer.public_key(), content, findings),
        (b"", signer.public_key(), content, findings),
    ):
        with pytest.raises(DeviceError, match="statement"):
            checked(*args)


def test_the_command_reports_signs_and_verifies(
    ostiary: Ostiary,  # noqa: F811
    reader: list[Reading],
    other_reader: list[Reading],
    tmp_path: Path,
) -> None:
    assert ostiary("enroll", "4711", *(reader[n].path for n in (0, 2, 3))).code == 0
    out = tmp_path / "report.html"
    ran = ostiary("inspect", reader[4].path, "--person", "4711", "--out", out)
    assert ran.code == 0, ran.err
    assert "cannot be said" in ran.out
    first = {suffix: out.with_suffix(suffix).read_bytes() for suffix in (".html", ".json", ".cose")}
    told = json.loads(first[".json"])
    assert told["voice"]["llr"] > 3.0
    assert told["live"]["llr"] > 0.0
    assert ostiary("inspect", reader[4].path, "--person", "4711", "--out", out).code == 0
    assert out.read_bytes() == first[".html"]
    assert out.with_suffix(".json").read_bytes() == first[".json"]
    other = json.loads(ostiary("inspect", other_reader[1].path, "--person", "4711", "--json").out)
    assert other["voice"]["llr"] < 0.0

    key = tmp_path / "unit.pem"
    key.write_text(ostiary("store", "audit-key").out)
    check = ("--verify", out.with_suffix(".cose"), "--key", key)
    assert ostiary("inspect", reader[4].path, *check).code == 0
    refused = ostiary("inspect", other_reader[1].path, *check)
    assert refused.code == 3
    assert "another recording" in refused.err


def test_a_recording_is_not_overwritten_by_its_report(
    ostiary: Ostiary,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    ran = ostiary("inspect", path, "--out", path)
    assert ran.code == 3
    assert "would overwrite" in ran.err
    assert shipped().version.startswith("liveness-")
