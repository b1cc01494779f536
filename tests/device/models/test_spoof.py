"""The spoof detector as it ships: the committed network and its card, on real and on made speech."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from device.errors import DeviceError
from device.model_store.bundle import Bundle, BundleError
from device.model_store.manifest import Entry, Manifest
from device.model_store.sessions import OnnxSession, Session
from device.models.spoof import features as front
from device.models.spoof.detector import SpoofCard, SpoofDetector, against_any, checked_head, checked_network
from device.models.spoof.envelopes import MAX_HEAD_BYTES, STATISTICS, EnvelopeHead, envelopes
from device.models.spoof.frame_rates import FORM
from device.models.spoof.norms import BonaFideNorms

WEIGHTS = Path(__file__).parents[3] / "quantize" / "train" / "weights"
PEOPLE = Path("/usr/share/pocketsphinx/test/data")
RATE_HZ = 16_000

Wave = npt.NDArray[np.float32]


class FixedSession:
    """Answers with what it was given."""

    def __init__(self, *logits: list[float]) -> None:
        self._left = [np.array([one], np.float32) for one in logits]

    def run(self, inputs: dict[str, npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        return [self._left.pop(0)]


@pytest.fixture(scope="module")
def card() -> SpoofCard:
    return SpoofCard.from_bytes((WEIGHTS / "spoof.json").read_bytes())


@pytest.fixture(scope="module")
def detector(card: SpoofCard) -> SpoofDetector:
    return with_session(OnnxSession(checked_network(WEIGHTS / "spoof.int8.onnx", card)), card)


def with_session(session: Session, card: SpoofCard) -> SpoofDetector:
    return SpoofDetector(session, card, checked_head(WEIGHTS / "spoof-envelopes.npz", card))


def real_people() -> list[Path]:
    found = sorted([*(PEOPLE / "librivox").glob("*.wav"), *(PEOPLE / "cards").glob("*.wav")])
    if not found:
        pytest.skip("Debian package pocketsphinx-testdata is not installed")
    return found


def read(path: Path) -> Wave:
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Wave = wave[:, 0]
    return mono if rate == RATE_HZ else np.asarray(soxr.resample(mono, rate, RATE_HZ), np.float32)


def spoken_by(tool: str, tmp_path: Path, text: str, voice: str) -> Wave:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    out = str(tmp_path / "spoken.wav")
    command = {
        "espeak-ng": ["espeak-ng", "-v", voice, "-w", out, text],
        "flite": ["flite", "-voice", voice, "-t", text, "-o", out],
    }[tool]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return read(Path(out))


def test_recorded_people_whom_no_model_heard_pass_at_the_default_threshold(detector: SpoofDetector) -> None:
    """Two seconds or more: the card says that shorter speech is refused far more often."""
    waves = {path.name: read(path) for path in real_people()}
    llrs = {name: detector.llr(wave) for name, wave in waves.items() if len(wave) >= 2 * RATE_HZ}
    assert len(llrs) >= 5
    assert {name: llr for name, llr in llrs.items() if llr <= 0.0} == {}


def test_two_seconds_of_a_recorded_reader_are_enough_to_pass(detector: SpoofDetector) -> None:
    wave = read(next(p for p in real_people() if p.parent.name == "librivox"))
    middle = len(wave) // 2
    assert detector.llr(wave[middle - RATE_HZ : middle + RATE_HZ]) > 0.0


@pytest.mark.parametrize(
    ("tool", "voice"),
    [
        ("espeak-ng", "en-us"),
        ("espeak-ng", "en-gb+f3"),
        ("flite", "slt"),
        ("flite", "awb"),
        ("flite", "kal16"),
    ],
)
@pytest.mark.parametrize(
    "text", ["amber falcon river seven", "I approve the transaction 1 2 3 4 with the code 1 D 3 A"]
)
def test_a_classical_synthesiser_is_refused(
    detector: SpoofDetector, tmp_path: Path, tool: str, voice: str, text: str
) -> None:
    assert detector.llr(spoken_by(tool, tmp_path, text, voice)) < 0.0


def test_gain_and_offset_of_the_microphone_do_not_matter(detector: SpoofDetector) -> None:
    wave = read(real_people()[0])
    plain = detector.llr(wave)
    assert detector.llr(wave * np.float32(0.1)) == pytest.approx(plain, abs=0.2)
    assert detector.llr(wave + np.float32(0.05)) == pytest.approx(plain, abs=0.2)


def test_the_same_speech_scores_the_same_twice(detector: SpoofDetector) -> None:
    wave = read(real_people()[0])
    assert detector.llr(wave) == detector.llr(wave)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, np.float32),
        np.full(100, 0.1, np.float32),
        np.zeros(RATE_HZ, np.float32),
        np.full(RATE_HZ, 0.5, np.float32),
        np.full(RATE_HZ, np.nan, np.float32),
        np.full(RATE_HZ, np.inf, np.float32),
        np.ones((RATE_HZ, 2), np.float32),
    ],
    ids=["empty", "a few samples", "silence", "a constant", "NaN", "infinite", "stereo"],
)
def test_what_is_not_speech_is_an_error_and_never_a_score(detector: SpoofDetector, wave: Wave) -> None:
    with pytest.raises(DeviceError, match=r"too little speech|not a number|only silence"):
        detector.llr(wave)


def test_half_a_second_is_judged(detector: SpoofDetector) -> None:
    wave = read(next(p for p in real_people() if p.parent.name == "librivox"))
    assert np.isfinite(detector.llr(wave[RATE_HZ : RATE_HZ + RATE_HZ // 2]))


def test_a_network_that_answers_nonsense_is_an_error(card: SpoofCard) -> None:
    speech = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    with pytest.raises(DeviceError, match="not a score"):
        with_session(FixedSession([float("nan"), 0.0]), card).llr(speech)


def test_long_speech_is_as_live_as_its_least_live_stretch(card: SpoofCard) -> None:
    speech = np.random.default_rng(0).standard_normal(12 * RATE_HZ).astype(np.float32)
    mixed = with_session(FixedSession([-9.0, -9.0], [9.0, -9.0]), card)
    spoofed = with_session(FixedSession([9.0, -9.0]), card)
    assert mixed.llr(speech) == pytest.approx(spoofed.llr(speech[: 6 * RATE_HZ]))


def test_one_attack_alone_is_enough_to_refuse() -> None:
    assert against_any(8.0, 8.0, 8.0) == pytest.approx(8.0)
    for attack in ((-5.0, 8.0, 8.0), (8.0, -5.0, 8.0), (8.0, 8.0, -5.0)):
        assert against_any(*attack) < -3.0


def test_speech_that_a_network_likes_is_refused_for_the_beat_of_its_frames(card: SpoofCard) -> None:
    wave = read(next(p for p in real_people() if p.parent.name == "librivox"))[: 5 * RATE_HZ]
    high = np.diff(wave, n=2, prepend=0.0, append=0.0)[: len(wave)]
    framed = wave + 0.5 * high * ((np.arange(len(wave)) * 93.75 / RATE_HZ) % 1.0 < 0.25)
    human, made = (
        with_session(FixedSession([-9.0, -9.0]), card).evidence(one.astype(np.float32))
        for one in (wave, framed)
    )
    assert human.llr > 0.0 > made.llr
    assert made.cadence_llr < 0.0 < made.synthetic_llr


def bundle(folder: Path, files: dict[str, Path]) -> Path:
    """A bundle of these files by role, as `ostiary models build` lays it out."""
    entries = []
    for role, path in files.items():
        data = path.read_bytes()
        (folder / path.name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(
            Entry(role, path.name, digest, len(data), "test", "presentation attacks", "Apache-2.0")
        )
    (folder / "manifest.json").write_bytes(Manifest(1, "0.0.1", tuple(entries)).to_bytes())
    return folder


SHIPPED = {
    "spoof": WEIGHTS / "spoof.int8.onnx",
    "spoof-card": WEIGHTS / "spoof.json",
    "spoof-envelopes": WEIGHTS / "spoof-envelopes.npz",
}


def test_a_bundle_opens_into_the_same_detector(tmp_path: Path, detector: SpoofDetector) -> None:
    opened = SpoofDetector.open(Bundle.open(bundle(tmp_path, SHIPPED)))
    wave = read(real_people()[0])
    assert opened.llr(wave) == detector.llr(wave)
    assert opened.version == detector.version


@pytest.mark.parametrize("absent", ["spoof", "spoof-card", "spoof-envelopes"])
def test_a_bundle_that_lacks_a_part_is_refused(tmp_path: Path, absent: str) -> None:
    rest = {role: path for role, path in SHIPPED.items() if role != absent}
    with pytest.raises(BundleError, match=absent):
        SpoofDetector.open(Bundle.open(bundle(tmp_path, rest)))


def test_a_network_other_than_the_card_names_is_refused(tmp_path: Path, card: SpoofCard) -> None:
    swapped = tmp_path / "spoof.int8.onnx"
    swapped.write_bytes(b"another network")
    with pytest.raises(DeviceError, match="not the network"):
        checked_network(swapped, card)


def test_a_missing_network_is_refused(tmp_path: Path, card: SpoofCard) -> None:
    with pytest.raises(DeviceError, match="cannot read"):
        checked_network(tmp_path / "absent.onnx", card)


def head_of(tmp_path: Path, data: bytes, card: SpoofCard) -> EnvelopeHead:
    """`data` as the head that its card names."""
    path = tmp_path / "spoof-envelopes.npz"
    path.write_bytes(data)
    return checked_head(path, replace(card, envelopes_sha256=hashlib.sha256(data).hexdigest()))


def test_a_head_other_than_the_card_names_is_refused(tmp_path: Path, card: SpoofCard) -> None:
    other = tmp_path / "spoof-envelopes.npz"
    other.write_bytes(b"another head")
    with pytest.raises(DeviceError, match="not the head"):
        checked_head(other, card)
    with pytest.raises(DeviceError, match="cannot read"):
        checked_head(tmp_path / "absent.npz", card)


def parts_of(head: EnvelopeHead) -> dict[str, npt.NDArray[np.float32]]:
    return {name: getattr(head, name) for name in EnvelopeHead.__slots__}


def saved(parts: dict[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **parts)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"\x93NUMPY", b"\0" * (MAX_HEAD_BYTES + 9)], ids=["empty", "cut", "an array", "huge"]
)
def test_a_head_that_is_no_head_is_refused(tmp_path: Path, card: SpoofCard, data: bytes) -> None:
    with pytest.raises(DeviceError, match=r"is damaged|cannot read|is not the head"):
        head_of(tmp_path, data, card)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("mean", np.zeros(3, np.float32)),
        ("mean", np.full(STATISTICS, np.nan, np.float32)),
        ("scale", np.zeros(STATISTICS, np.float32)),
        ("hidden", np.zeros((2, 2), np.float32)),
        ("answers_bias", np.zeros(1, np.float32)),
        ("answers_bias", np.zeros(3, np.float64)),
        ("mean", np.array([{"a": 1}], object)),
    ],
    ids=["short", "NaN", "no scale", "wrong shape", "nothing to tell", "wrong type", "a pickle"],
)
def test_a_head_with_a_damaged_part_is_refused(
    tmp_path: Path, card: SpoofCard, part: str, value: npt.NDArray[Any]
) -> None:
    shipped = EnvelopeHead.from_bytes(SHIPPED["spoof-envelopes"].read_bytes())
    assert head_of(tmp_path, saved(parts_of(shipped)), card).score(np.zeros(STATISTICS, np.float32)) != 0.0
    with pytest.raises(DeviceError, match="damaged"):
        head_of(tmp_path, saved(parts_of(shipped) | {part: value}), card)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [1, 16, 80, 320])
def test_a_click_in_silence_has_envelopes_and_a_score(detector: SpoofDetector, samples: int) -> None:
    wave = np.zeros(RATE_HZ, np.float32)
    wave[4000 : 4000 + samples] = 0.1 * np.random.default_rng(0).standard_normal(samples)
    assert np.isfinite(envelopes(wave)).all()
    assert np.isfinite(detector.llr(wave))


def test_envelopes_ignore_gain_silence_around_the_speech_and_how_deep_pauses_go() -> None:
    wave = read(next(p for p in real_people() if p.parent.name == "librivox"))[: 4 * RATE_HZ]
    found = envelopes(wave)
    padded = np.concatenate([np.zeros(RATE_HZ, np.float32), wave, np.zeros(RATE_HZ, np.float32)])
    quiet = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32) * wave.std() * 10**-3.0
    for changed, most in ((wave * np.float32(0.1), 1e-2), (padded, 0.1), (wave + quiet, 0.1)):
        assert np.abs(envelopes(changed) - found).mean() < most
    assert found.shape == (STATISTICS,)


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": {"synthetic": {"scale": -1, "offset": 0}, "loudspeaker": {"scale": 1, "offset": 0}}},
        {"calibration": {"synthetic": {"scale": 1, "offset": 0}}},
        {"calibration": []},
        {"null": {name: [[1.0]] for name in BonaFideNorms.__slots__}},
        {"null": {"mean": "many"}},
        {"null": None},
        {"operating_points": {"bpcer_1": float("nan")}},
        {"operating_points": [1, 2]},
        {"form": "the first"},
    ],
    ids=[
        "negative scale",
        "a head missing",
        "a list for a table",
        "a null of the wrong shape",
        "a null that is words",
        "no null",
        "a threshold that is no number",
        "no names",
        "a form that is words",
    ],
)
def test_a_damaged_card_is_refused(change: dict[str, object]) -> None:
    fields = json.loads((WEIGHTS / "spoof.json").read_bytes()) | change
    with pytest.raises(DeviceError, match="damaged"):
        SpoofCard.from_bytes(json.dumps(fields).encode())


@pytest.mark.parametrize("form", [None, FORM - 1, FORM + 1])
def test_a_card_fitted_to_another_form_of_frame_rates_is_refused(form: int | None) -> None:
    fields = json.loads((WEIGHTS / "spoof.json").read_bytes()) | {"form": form}
    if form is None:  # as every card was until forms had numbers
        del fields["form"]
    with pytest.raises(DeviceError, match=r"fitted for another version .*ostiary models build"):
        SpoofCard.from_bytes(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b" " * ((1 << 20) + 1)])
def test_a_card_that_is_not_a_card_is_refused(data: bytes) -> None:
    with pytest.raises(DeviceError, match=r"card is (damaged|too large)"):
        SpoofCard.from_bytes(data)


def test_the_front_end_ignores_silence_around_the_speech_and_any_gain() -> None:
    rng = np.random.default_rng(1)
    speech = rng.standard_normal(2 * RATE_HZ).astype(np.float32) * np.float32(0.1)
    padded = np.concatenate([np.zeros(RATE_HZ, np.float32), speech, np.zeros(RATE_HZ, np.float32)])
    alone, among = front.spoof_features(speech), front.spoof_features(padded)
    assert abs(alone.shape[2] - among.shape[2]) <= 2 * front.TRIM_PAD_FRAMES + 4
    np.testing.assert_allclose(front.spoof_features(speech * np.float32(0.25)), alone, atol=2e-3)


def test_the_front_end_repeats_short_speech_to_one_second() -> None:
    short = np.random.default_rng(2).standard_normal(4000).astype(np.float32)
    assert front.spoof_features(short).shape == (front.PICTURES, front.BINS, front.MIN_FRAMES)
