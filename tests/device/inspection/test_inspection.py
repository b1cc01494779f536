"""Evidence of a recording: the same for the same file, signed, and honest about what it cannot say."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
import soundfile

from device.audio import AudioSettings, load_utterance
from device.errors import DeviceError
from device.evidence.judge import Judge
from device.inspection import page
from device.inspection.findings import Checks, Findings, examine, somebody_speaks, stretches
from device.inspection.places import MARK_LLR, InspectionWeights, about, peaks, shipped_edits
from device.inspection.scale import in_words
from device.inspection.statement import checked, findings_bytes, signed, statement
from device.models.spoof.detector import SpoofEvidence
from quantize.evaluate.recordings.splicing import ENERGY, Source, draw
from sync.keys import FileSigner
from tests.device.commands.conftest import Ostiary, ostiary  # noqa: F401
from tests.speech import Reading


def wave(reading: Reading) -> np.ndarray:
    return load_utterance(reading.path, AudioSettings()).wave()


@pytest.fixture
def checks(judge: Judge) -> Checks:
    return Checks(judge.speaker, judge.spoof, shipped_edits())


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


def marked(sound: np.ndarray) -> list[float]:
    return [at for at, llr in shipped_edits()(sound).places if llr >= MARK_LLR]


def test_where_pieces_were_joined_is_marked(reader: list[Reading]) -> None:
    sources = [Source(str(one.path), wave(one)) for one in reader]
    assert sum(len(marked(one.wave)) for one in sources) <= 1, "in 25 s"
    hits = total = 0
    for seed in range(6):
        splice = draw(sources, ENERGY, "words", np.random.default_rng(seed))
        assert splice is not None
        marks = marked(splice.wave)
        hits += sum(any(abs(at - mark) <= 0.25 for mark in marks) for at in splice.joins_s)
        total += len(splice.joins_s)
    assert hits >= 0.4 * total


def test_pieces_put_together_speak_against_one_go(reader: list[Reading]) -> None:
    sources = [Source(str(one.path), wave(one)) for one in reader]
    whole = [shipped_edits()(one.wave).one_go_llr for one in sources]
    pasted = [draw(sources, ENERGY, "words", np.random.default_rng(seed)) for seed in range(8)]
    llrs = [shipped_edits()(one.wave).one_go_llr for one in pasted if one is not None]
    assert len(llrs) > 5
    assert np.median(llrs) < np.median(whole) - 1.0
    assert np.median(llrs) < 0.0


def test_a_place_counts_more_where_the_whole_recording_speaks_for_edits() -> None:
    suspect, innocent = (about([2.0], llr) @ np.array(shipped_edits().weights.place[:2]) for llr in (-4, 4))
    assert suspect[0] > innocent[0]
    assert about([1.0, 2.0], 99.0).tolist() == [[1.0, -8.0], [2.0, -8.0]]


def test_a_live_check_other_than_that_which_its_ratio_was_fitted_on_is_said(
    checks: Checks, reader: list[Reading]
) -> None:
    sound, weights = wave(reader[4]), checks.edits.weights
    ours = replace(checks.edits, weights=replace(weights, detector=checks.spoof.version))
    other = replace(checks.edits, weights=replace(weights, detector="spoof-of-last-year"))
    assert not any("another version" in one for one in found(replace(checks, edits=ours), sound).unsaid)
    assert any("another version" in one for one in found(replace(checks, edits=other), sound).unsaid)


def test_weights_of_another_form_are_refused() -> None:
    with pytest.raises((KeyError, ValueError)):
        InspectionWeights.from_text('version = "x"\n[live]\nscale = 1.0\n')


def test_peaks_are_apart_and_above_the_bar() -> None:
    frames = np.full(100, -5.0, np.float32)
    frames[[20, 22, 60, 99]] = [3.0, 4.0, 1.0, 5.0]
    assert peaks(frames, 2.0) == [(pytest.approx(0.45), 4.0), (pytest.approx(1.99), 5.0)]


class LessAndLess:
    """A live check that finds each stretch less live than the one before, and takes no memory."""

    version = "less-and-less"

    def __init__(self) -> None:
        self.asked = 0

    def evidence(self, wave: np.ndarray) -> SpoofEvidence:
        self.asked += 1
        return SpoofEvidence(0.0, 0.0, 0.0, 0.0, float(-self.asked), 0.0)

    def llr(self, wave: np.ndarray) -> float:
        return self.evidence(wave).llr


def test_ten_minutes_take_little_memory_beside_the_sound_itself(checks: Checks) -> None:
    sound = np.random.default_rng(1).standard_normal(600 * 16_000).astype(np.float32) * 0.1
    tracemalloc.start()
    try:
        told = found(replace(checks, spoof=LessAndLess()), sound)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(told.level_db) == 6_000
    assert told.level_dbfs == pytest.approx(-20.0, abs=0.01)
    assert most < 60 << 20, f"{most >> 20} MiB"


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


def test_two_processes_write_the_same_page_findings_and_statement(
    models: Path, reader: list[Reading], tmp_path: Path
) -> None:
    """The order of sets and the number of threads must not show; only an ECDSA signature may differ."""
    written = []
    for seed, threads in (("1", "1"), ("2", "2")):
        out = tmp_path / seed / "report.html"
        out.parent.mkdir()
        ran = subprocess.run(
            [
                sys.executable,
                "-c",
                "from device.cli import main; main()",
                "inspect",
                reader[4].path,
                "--out",
                out,
            ],
            env={
                **os.environ,
                "OSTIARY_MODELS_DIR": str(models),
                "OSTIARY_STATE_DIR": str(tmp_path / "state"),
                "PYTHONHASHSEED": seed,
                "OMP_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert ran.returncode == 0, ran.stderr
        written.append([out.read_bytes(), out.with_suffix(".json").read_bytes(), _signed_part(out)])
    assert written[0] == written[1]


def _signed_part(out: Path) -> bytes:
    """What the statement's signature covers."""
    protected, _, payload, _ = cbor2.loads(out.with_suffix(".cose").read_bytes()).value
    return bytes(protected + payload)


def test_the_page_begins_with_what_was_found_and_numbers_its_axes(
    checks: Checks, reader: list[Reading]
) -> None:
    told = found(checks, wave(reader[4]))
    html = page.render(told)
    assert html.index(told.live_in_words[1:20]) < html.index("<h2>")
    assert html.index("o place looks joined") < html.index("<h2>")
    for label in ("+12<", "-12<", "-80 dB<", f">{MARK_LLR:.1f}<"):
        assert label in html


def test_a_recording_is_not_overwritten_by_its_report(
    ostiary: Ostiary,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    ran = ostiary("inspect", path, "--out", path)
    assert ran.code == 3
    assert "would overwrite" in ran.err


@pytest.mark.parametrize("sound", ["noise", "hum", "silence", "one sample"])
def test_where_nobody_speaks_nothing_is_found(ostiary: Ostiary, tmp_path: Path, sound: str) -> None:  # noqa: F811
    time_s, dice = np.arange(6 * 16_000) / 16_000.0, np.random.default_rng(0)
    made = {
        "noise": 0.1 * dice.standard_normal(len(time_s)),
        "hum": 0.1 * np.sign(np.sin(2.0 * np.pi * 50.0 * time_s)),
        "silence": np.zeros(len(time_s)),
        "one sample": np.full(1, 0.5),
    }
    path = tmp_path / "call.wav"
    soundfile.write(path, made[sound], 16_000, subtype="PCM_16")
    ran = ostiary("inspect", path)
    assert ran.code != 0
    assert "nobody speaks in call.wav" in ran.err
    assert not ran.out


def test_everybody_who_speaks_is_heard(reader: list[Reading], other_reader: list[Reading]) -> None:
    for one in (*reader, *other_reader):
        assert somebody_speaks(load_utterance(one.path, AudioSettings()).samples)
